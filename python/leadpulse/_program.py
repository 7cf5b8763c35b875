"""The program: where it lies, and how it is run."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig


class LeadpulseError(Exception):
    """The program ended with an error. `words` are its last line, `log` all that it printed to standard error."""

    def __init__(self, words, log):
        super().__init__(words)
        self.words, self.log = words, log


def find_program():
    """Path of the program: LEADPULSE_BIN, else the script of this wheel, else the first on PATH."""
    named = os.environ.get("LEADPULSE_BIN")
    if named:
        return named
    name = "leadpulse.exe" if sys.platform == "win32" else "leadpulse"
    schemes = [None, "posix_user" if os.name == "posix" else "nt_user"]
    for scheme in schemes:
        folder = sysconfig.get_path("scripts", scheme) if scheme else sysconfig.get_path("scripts")
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    found = shutil.which(name)
    if not found:
        raise FileNotFoundError("the program leadpulse is not here; install the wheel, or set LEADPULSE_BIN to its path")
    return found


def run(*arguments, cwd=None):
    """Runs the program and returns its standard output.

    Raises LeadpulseError with the program's last line if it fails. Arguments are turned into text; None is left out.
    """
    words = [str(one) for one in arguments if one is not None]
    ended = subprocess.run([find_program(), *words], cwd=cwd, capture_output=True, text=True)
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or ["it printed nothing"]
        raise LeadpulseError(lines[-1].removeprefix("error: "), ended.stderr)
    return ended.stdout


def figures(*arguments, cwd=None):
    """Runs the program with --json and returns the object that it prints."""
    return json.loads(run(*arguments, "--json", cwd=cwd))
