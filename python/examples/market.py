# %% [markdown]
# From frames to a model: a simulated market of 80 accounts, in a folder that is given or made.

# %%
import json
import sys
import tempfile
from pathlib import Path

import pandas

import leadpulse

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())

# %% Data: any frames do. Here they come from the simulator.
leadpulse.run("simulate", "--accounts", 80, "--days", 250, "--seed", 3, "--out", folder / "market")
frames = {}
for table in ["accounts", "contacts", "activities"]:
    frames[table] = pandas.read_json(folder / "market" / f"{table}.jsonl", lines=True, dtype=False)
print({table: len(frame) for table, frame in frames.items()})

# %% A project: tables, keys, times and references are inferred. Read the doubts before anything else.
project = leadpulse.init(frames, folder / "project", root="accounts")
for doubt in project.inferred["doubts"]:
    print("doubt:", doubt)

# %% A question. Few outcomes are enough for an example; a model that people rely on needs more.
question = "PREDICT COUNT(activities.*, 0, 30, days) > 8 FOR EACH accounts.account_id"
labels = project.query(question)["labels"]
print(labels)

# %% Training: a small network, so that the example takes seconds.
text = project.config.read_text()
start = text.index("[[tasks]]")
project.config.write_text(
    text[:start]
    + f'[[tasks]]\nname = "busy-30d"\nquery = {json.dumps(question)}\nanchors = "every 10d"\n'
    + "[tasks.fit]\ncandidates = [{ hidden = 16 }]\nensemble = 1\nselection_members = 1\nmax_epochs = 3\n"
)
trained = project.train("bundle", force=True)
print("trained", trained["bundle"])

# %% Judgement: each moment is scored from what was known then.
scored, judged = project.backtest("bundle")
print(scored.nlargest(3, "probability"))
task = judged["tasks"][0]
print(task["task"], "rows", task["rows"], "scored", task["scored"])

# %% Reasons.
key = scored.nlargest(1, "probability")["key"].iloc[0]
why = project.explain("bundle", "busy-30d", as_of="2020-08-01", keys=[key])
for driver in why["drivers"].iloc[0][:3]:
    print(f"{driver['contribution']:+.2f}  {driver['label']}")

# %% Rows of one's own: moments and keys, with a probability beside each.
rows = pandas.DataFrame({"timestamp": ["2020-08-01", "2020-08-15"], "account_id": [key, key]})
again, _ = project.backtest("bundle", rows=rows)
print(again)
