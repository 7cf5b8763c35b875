"""A folder with a configuration, schemas and the files of a history."""

import json
from pathlib import Path

from ._program import figures, run


class Project:
    """A folder: `leadpulse.toml`, `schemas/`, and `data/` with the history as Parquet files."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @property
    def config(self):
        return self.folder / "leadpulse.toml"

    @property
    def data(self):
        return self.folder / "data"

    def write(self, frames):
        """Writes frames by name to `data/NAME.parquet`, over those of before. Times with a zone become UTC."""
        self.data.mkdir(parents=True, exist_ok=True)
        for name, frame in frames.items():
            frame.to_parquet(self.data / f"{name}.parquet", index=False)

    def query(self, query):
        """Plans a query or a named task, and counts its labels in the history."""
        return self._figures("query", query, "--data", self.data.resolve())

    def train(self, bundle, tasks=(), force=False, **options):
        """Trains a bundle in a folder below the project, and returns the figures.

        Options are those of the command with underscores: `val_from="2025-01-01"`, `sample=0.25`.
        """
        named = [word for task in tasks for word in ("--task", task)]
        forced = ["--force"] if force else []
        return self._figures("train", "--data", self.data.resolve(), "--out", bundle, *named, *forced, *_words(options))

    def backtest(self, bundle, rows=None, **options):
        """Scores the period after the bundle's test start, or the rows of a frame: moments with keys.

        Returns a frame with a column `probability`, and the figures.
        """
        import pandas

        out = self.folder / "scored.parquet"
        given = []
        if rows is not None:
            path = self.folder / "rows.parquet"
            rows.to_parquet(path, index=False)
            given = ["--rows", path.resolve()]
        judged = self._figures(
            "backtest", "--data", self.data.resolve(), "--model", bundle, "--out", out.resolve(), *given, *_words(options)
        )
        return pandas.read_parquet(out), judged

    def explain(self, bundle, task, as_of, keys):
        """Scores of entities at a past moment with their reasons: a frame with a row for each key.

        `drivers` are lists of groups with contributions (logits) and evidence.
        """
        import pandas

        lines = run(
            *("explain", "--config", self.config.resolve(), "--data", self.data.resolve(), "--model", bundle),
            *("--task", task, "--as-of", as_of, "--json", *keys),
            cwd=self.folder,
        )
        return pandas.DataFrame([json.loads(line) for line in lines.splitlines()])

    def _figures(self, command, *arguments):
        return figures(command, *arguments, "--config", self.config.resolve(), cwd=self.folder)


def init(frames, folder, root=None):
    """Infers schemas, a configuration and a first task from frames by name of their table.

    Nothing in the folder is overwritten but `data/`. `root` names the table to score, where frames leave it open. What was inferred, and
    the doubts about it, is in `Project.inferred`.
    """
    project = Project(folder)
    project.write(frames)
    chosen = [] if root is None else ["--root", root]
    project.inferred = figures("init", "--from", project.data.resolve(), "--out", project.folder.resolve(), *chosen)
    return project


def _words(options):
    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", value]
    return words
