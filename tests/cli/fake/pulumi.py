"""A `pulumi` for the tests: writes down how it was called, and answers from answers.json beside it."""

import json
import sys
from pathlib import Path

here = Path(__file__).parent
answers = json.loads((here / "answers.json").read_text())
args = sys.argv[1:]
with (here / "calls.jsonl").open("a") as file:
    file.write(json.dumps(args) + "\n")
if args[:2] == ["stack", "export"]:
    if answers["export"] is None:
        sys.exit("error: no stack named 'local' found")
    print(json.dumps(answers["export"]))
elif args[:2] == ["stack", "import"]:
    answers["export"] = json.load(sys.stdin)
    (here / "answers.json").write_text(json.dumps(answers))
elif args[0] == "cancel":
    answers.update(stderr="", code=0)
    (here / "answers.json").write_text(json.dumps(answers))
    sys.exit()
elif args[:2] == ["stack", "init"]:
    answers["export"] = {"version": 3, "deployment": {}}
    (here / "answers.json").write_text(json.dumps(answers))
else:
    if "--config-file" in args:
        print(Path(args[args.index("--config-file") + 1]).read_text(), file=(here / "config").open("w"))
    with open(args[args.index("--event-log") + 1], "w") as log:
        for event in answers["events"]:
            log.write(json.dumps(event) + "\n")
    sys.stderr.write(answers["stderr"])
    sys.exit(answers["code"])
if answers["stderr"] and "locked" not in answers["stderr"]:  # a lock does not keep anybody from reading
    sys.exit(answers["stderr"])
