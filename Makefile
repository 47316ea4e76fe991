# make book   sets up, runs every chapter that is not up to date, binds the book into _build/html
# make test   sets up and runs the tests, those in a browser included where there is one
# make bench  measures what the runner, the binding, drawing, decoding, looking and learning cost, and the exercises; the last two go into book/records
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := .venv/ready

.PHONY: book test bench constraints
book: $(READY)
	.venv/bin/pneumo book

test: $(READY)
	tests/run

bench: $(READY)
	.venv/bin/python benchmarks/runner.py
	.venv/bin/python benchmarks/phantom.py --speed
	.venv/bin/python benchmarks/data.py
	.venv/bin/python benchmarks/explain.py
	.venv/bin/python benchmarks/learning.py --out book/records/speed.json
	.venv/bin/python benchmarks/exercises.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

# the versions of the environment as it is now, to be committed when they are meant to change
constraints:
	{ echo "# What make installs, exactly. Written by make constraints."; .venv/bin/python -m pip freeze --exclude-editable; } > constraints.txt
