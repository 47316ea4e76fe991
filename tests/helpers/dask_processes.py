"""A Dask scheduler and workers as processes of this machine, on loopback, each with a folder of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pneumo_utils.study import cluster


class Processes:
    """A scheduler and its workers; all that are left are ended with the test."""

    def __init__(self, folder: Path):
        self.folder, self.file, self.started = folder, folder / "scheduler.json", []
        folder.mkdir(exist_ok=True)

    def start(self, *words, cwd: Path, env=()) -> subprocess.Popen:
        cwd.mkdir(exist_ok=True)
        with open(cwd / "log.txt", "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *map(str, words), "--host", "127.0.0.1", "--no-dashboard"],
                cwd=cwd,
                env=os.environ | {"PNEUMO_RUNS": str(cwd / "runs"), "DASK_LOGGING__DISTRIBUTED": "error"} | dict(env),
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def scheduler(self) -> subprocess.Popen:
        self.file.unlink(missing_ok=True)
        words = ("distributed.cli.dask_scheduler", "--port", 0, "--scheduler-file", self.file)
        process = self.start(*words, cwd=self.folder / "scheduler")
        until(lambda: self.file.exists() and self.file.stat().st_size, process)
        return process

    def worker(self, name: str, site: str = "", **env) -> subprocess.Popen:
        """Start a worker; `site` is code that its Python runs first."""
        if site:
            (self.folder / f"site_{name}").mkdir()
            (self.folder / f"site_{name}" / "sitecustomize.py").write_text(site)
            env["PYTHONPATH"] = str(self.folder / f"site_{name}")
        words = ("distributed.cli.dask_worker", "--scheduler-file", self.file, "--nthreads", 1, "--no-nanny")
        return self.start(*words, "--name", name, cwd=self.folder / name, env=env)

    @property
    def address(self) -> str:
        return cluster.read_scheduler_file(self.file)

    def executor(self, workers: int, folders=()) -> cluster.ClusterExecutor:
        """Connect, and wait until so many workers are in use."""
        said: list[str] = []
        executor = cluster.ClusterExecutor(self.address, [str(folder) for folder in folders], said.append)
        until(lambda: executor.update_workers() and len(executor.workers) >= workers, said)
        executor.said = said
        return executor

    def shell(self, command: str) -> None:
        """Start a command as a user types it."""
        self.started.append(subprocess.Popen(["sh", "-c", f"exec {command} --no-dashboard"], cwd=self.folder))

    def end(self):
        for process in self.started:
            process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(condition, *about, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, [getattr(each, "args", each) for each in about]
        time.sleep(0.05)
