"""Leadpulse from Python: the command of the wheel, run on pandas frames.

Nothing is computed here. Frames are written as Parquet to a folder, the program reads them as it reads any files, and its results are
read back. So a figure of a notebook is the figure of the command line.

    project = leadpulse.init({"customers": customers, "orders": orders}, "work")
    project.train("bundle")
    scored, figures = project.backtest("bundle")
    why = project.explain("bundle", as_of="2025-11-02", keys=["C-17"])
    ranking = leadpulse.scores("http://127.0.0.1:8080")

The program is that of the wheel, or the one that the variable LEADPULSE_BIN names.
"""

from ._http import scores
from ._program import LeadpulseError, find_program, run
from ._project import Project, init

__all__ = ["LeadpulseError", "Project", "find_program", "init", "run", "scores"]
