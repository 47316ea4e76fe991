# make book   sets up, runs every chapter that is not up to date, binds the book into _build/html
# make test   sets up and runs all tests, those in a browser included where there is one
# make check  what a developer runs every minute: linter, types, and the tests that train nothing
# make lab    sets up JupyterLab and nbgrader too, writes lab 1 into the folder labs, and opens it; LAB=3 takes another
# make labs-test  runs the five labs whole, their experiments included, and grades submissions to each with nbgrader
# make fuzz   damages files of every layout and reads them; CASES=2000 and SEED=1 say how many and which
# make gpu    measures the papers' networks at full width on a GPU and runs their notebooks with their own settings, MINUTES at a time, into the folder OUT
# make bench  measures what the runner, the binding, drawing, decoding, looking and learning cost, the exercises, clusters and labs; the last four go into book/records
PYTHON ?= $(shell command -v python3.11 || command -v python3)
READY := .venv/ready
TEACH := .venv/teach
CASES ?= 2000
LAB ?= 1
MINUTES ?= 9
OUT ?= full_scale
SEED ?= 1

.PHONY: book test check lint lab labs-test fuzz bench gpu constraints
book: $(READY)
	.venv/bin/pneumo book

test: $(TEACH)
	tests/run

check: lint
	tests/run --quick

lint: $(READY)
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

lab: $(TEACH)
	test -e labs/student/lab_$(LAB).ipynb || .venv/bin/pneumo lab $(LAB) --out labs
	.venv/bin/jupyter lab labs/student/lab_$(LAB).ipynb

labs-test: $(TEACH)
	ALL_LABS=1 .venv/bin/python -m pytest tests/study/test_labs.py

fuzz: $(READY)
	.venv/bin/python tests/helpers/fuzzing.py --cases $(CASES) --seed $(SEED)

gpu: $(READY)
	.venv/bin/python benchmarks/full_scale.py --minutes $(MINUTES) --out $(OUT)

bench: $(TEACH)
	.venv/bin/python benchmarks/runner.py
	.venv/bin/python benchmarks/phantom.py --speed
	.venv/bin/python benchmarks/data.py
	.venv/bin/python benchmarks/evaluation.py
	.venv/bin/python benchmarks/explain.py
	.venv/bin/python benchmarks/learning.py --out book/records/speed.json
	.venv/bin/python benchmarks/exercises.py
	.venv/bin/python benchmarks/cluster.py
	.venv/bin/python benchmarks/labs.py
	.venv/bin/python benchmarks/labs.py --grade 60

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[check,imagenet,test]'
	touch $@

$(TEACH): $(READY)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[check,cluster,imagenet,teach,test]'
	touch $@

# the versions of the environment as it is now, to be committed when they are meant to change
constraints:
	{ echo "# What make installs, exactly. Written by make constraints."; .venv/bin/python -m pip freeze --exclude-editable; } > constraints.txt
