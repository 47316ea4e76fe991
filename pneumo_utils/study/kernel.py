"""A kernel whose own words, a traceback of its machinery or a library's complaint, go to a file and not over the
reader's screen.
"""

from pathlib import Path

from jupyter_client import AsyncKernelManager


def logged_to(path: Path) -> type[AsyncKernelManager]:
    """Return a kernel manager class that appends the kernel's own output to a file."""

    class LoggedKernelManager(AsyncKernelManager):
        async def _async_launch_kernel(self, kernel_cmd, **kw):
            with open(path, "a", encoding="utf-8") as log:
                await super()._async_launch_kernel(kernel_cmd, **kw, stdout=log, stderr=log)

    return LoggedKernelManager
