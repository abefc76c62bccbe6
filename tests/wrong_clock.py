"""A clock that is wrong for one process and its children: a few lines of C loaded before the C library.

Only the time of day is moved; the monotonic clock goes on, as it does when a real machine's clock is set.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile int64_t *offset_seconds;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_OFFSET_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset_seconds = page;
}

int clock_gettime(clockid_t clock, struct timespec *told) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, told);
    int of_day = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (!status && offset_seconds && of_day) told->tv_sec += *offset_seconds;
    return status;
}

int gettimeofday(struct timeval *told, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    if (told) { told->tv_sec = now.tv_sec; told->tv_usec = now.tv_nsec / 1000; }
    return 0;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
"""


class WrongClock:
    """Hand `environ` to a process; `set` moves its clock, at once and while it runs."""

    def __init__(self, folder: Path) -> None:
        """Compiles the library. Raises CalledProcessError when the compiler cannot."""
        self._offset = folder / "offset"
        library = folder / "clock.so"
        (folder / "clock.c").write_text(SOURCE)
        self._write(0)
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "clock.c"), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        self.environ = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(self._offset)}

    def set(self, moment: datetime) -> None:
        """From now on it is this moment, within a second."""
        self._write(round((moment - datetime.now(UTC)).total_seconds()))

    def turn(self, by: timedelta) -> None:
        """Forward, or back."""
        (offset,) = struct.unpack("<q", self._offset.read_bytes())
        self._write(offset + int(by.total_seconds()))

    def _write(self, seconds: int) -> None:
        with self._offset.open("r+b" if self._offset.exists() else "wb") as file:  # in place: it is mapped
            file.write(struct.pack("<q", seconds))


def why_not() -> str | None:
    """The reason why no clock can be made here."""
    return None if shutil.which("cc") else "a process's own clock needs a C compiler (cc)"
