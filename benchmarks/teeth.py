"""How many planted faults the smoke run catches, with the right cause, and how often it cries wolf.

Every fault of ``tests/zoo`` is planted in its base trainer and smoke-tested; every healthy trainer is smoke-tested as
it is. A finding that the healthy base gives as well does not count as a catch. "Right cause" means: one of the first
three findings comes from a check that ``tests/zoo/diagnoses.py`` names for the fault.

    python benchmarks/teeth.py
    python benchmarks/teeth.py --only "lit-*" --only base-lit --json teeth.json --markdown teeth.md
"""

import argparse
import dataclasses
import fnmatch
import json
import os
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from zoo import FAULTS, HEALTHY, Fault  # noqa: E402
from zoo.diagnoses import right_checks  # noqa: E402

from pytest_brainbrr import runner  # noqa: E402
from pytest_brainbrr.checks.catalogue import CHECKS  # noqa: E402

FIRST = 3


def smoke(case, folder, steps, checks):
    """Smoke-test one case and return a flat record of how it went."""
    began = time.perf_counter()
    record = {"name": case.name, "kind": "fault" if isinstance(case, Fault) else "healthy"}
    try:
        with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as workdir:
            report = runner.run(case.target(), workdir=workdir, steps=steps, checks=checks)
    except Exception:  # noqa: BLE001 (a crash of the smoke run is a result)
        return {**record, "crash": traceback.format_exc(), "findings": [], "seconds": time.perf_counter() - began}
    record["findings"] = [
        {"check": f.check, "where": f.where, "severity": f.severity, "message": f.message, "evidence": dict(f.evidence)}
        for f in report.findings
    ]
    record["vacuous"] = {outcome.check: outcome.reason for outcome in report.outcomes if outcome.status == "vacuous"}
    record["passed"] = sorted(outcome.check for outcome in report.outcomes if outcome.status == "passed")
    record["runs"] = report.facts.get("runs")
    record["seconds"] = time.perf_counter() - began
    return record


def judge_fault(fault, record, base):
    """Add to the record whether the fault was caught, how firmly, and whether for the right reason."""
    noise = {(f["check"], f["where"]) for f in base.get("findings", ())}
    own = [f for f in record["findings"] if (f["check"], f["where"]) not in noise]
    right = right_checks(fault)
    record["base"] = fault.base
    record["description"] = fault.description
    record["cause"] = fault.cause
    record["caught"] = bool(own)
    record["firmly"] = any(f["severity"] == "error" for f in own)
    record["right"] = any(f["check"] in right for f in own[:FIRST])
    record["accepted"] = sorted(right)
    record["own"] = own
    return record


def absolute(name):
    return Path(name).resolve()


def chosen(cases, patterns):
    if not patterns:
        return list(cases)
    return [
        case for case in cases if any(fnmatch.fnmatch(case.name, p) or getattr(case, "base", "") == p for p in patterns)
    ]


def names(records):
    return ", ".join(sorted(record["name"] for record in records)) or "none"


def table(faults, healthy):
    """Return the lines of the summary."""
    lines = []
    for title, records in (("fault", faults), ("healthy", healthy)):
        for record in sorted(records, key=lambda r: r["name"]):
            if record.get("crash"):
                verdict = "CRASHED"
            elif title == "fault":
                verdict = "right" if record["right"] else "other cause" if record["caught"] else "MISSED"
                verdict += "" if record["firmly"] or not record["caught"] else " (warning)"
            else:
                severities = {f["severity"] for f in record["findings"]}
                verdict = "FALSE ALARM" if "error" in severities else "warned" if severities else "clean"
            seen = ", ".join(dict.fromkeys(f["check"] for f in record.get("own", record["findings"])))
            lines.append(f"{title:<8} {record['name']:<46} {verdict:<24} {record['seconds']:6.1f} s  {seen}")
    lines.append("")
    if faults:
        n = len(faults)
        caught, right, firm = (sum(bool(r[key]) for r in faults) for key in ("caught", "right", "firmly"))
        lines.append(f"faults: {n}; caught {caught} ({caught / n:.1%}), of these {firm} as errors")
        lines.append(f"right cause in the first {FIRST} findings: {right} ({right / n:.1%})")
        lines.append(f"missed: {names(r for r in faults if not r['caught'])}")
        lines.append(f"caught for another reason: {names(r for r in faults if r['caught'] and not r['right'])}")
    if healthy:
        failed = [r for r in healthy if any(f["severity"] == "error" for f in r["findings"])]
        warned = [r for r in healthy if r["findings"] and r not in failed]
        lines.append(f"healthy: {len(healthy)}")
        lines.append(f"failures on {len(failed)}: {names(failed)}")
        lines.append(f"warnings on {len(warned)}: {names(warned)}")
    lines.append(f"crashes of the smoke run itself: {names(r for r in (*faults, *healthy) if r.get('crash'))}")
    return lines


def markdown(faults, healthy):
    """Return a report for those who mend the checks: every miss and every false alarm with its evidence."""
    summary = table(faults, healthy)
    lines = ["# Teeth", "", *(f"- {line}" for line in summary[summary.index("") + 1 :])]
    lines += ["", "## Findings on healthy trainers", ""]
    for record in healthy:
        for f in record["findings"]:
            evidence = json.dumps(f["evidence"], default=str)[:300]
            lines.append(
                f"- **{record['name']}** {f['severity']} `{f['check']}` at `{f['where']}`: {f['message']} {evidence}"
            )
    for title, kept in (
        ("Missed", [r for r in faults if not r["caught"]]),
        ("Caught for another reason", [r for r in faults if r["caught"] and not r["right"]]),
    ):
        lines += ["", f"## {title}", ""]
        for record in kept:
            lines.append(f"- **{record['name']}** ({record['base']}): {record['description']}; {record['cause']}.")
            lines.append(f"  - accepted: {', '.join(record['accepted'])}")
            blind = {check: why for check, why in record.get("vacuous", {}).items() if check in record["accepted"]}
            lines += [f"  - vacuous: {check}: {why}" for check, why in blind.items()]
            lines += [
                f"  - found: {f['severity']} `{f['check']}` at `{f['where']}`: {f['message']}" for f in record["own"]
            ]
    lines += ["", "## Crashes of the smoke run", ""]
    crashed = [record for record in (*faults, *healthy) if record.get("crash")]
    lines += [f"- **{record['name']}**\n\n```\n{record['crash']}\n```" for record in crashed]
    return [*lines, ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="names (with * and ?) or a base trainer; repeatable",
    )
    parser.add_argument("--kind", choices=["faults", "healthy"], help="only planted faults, or only healthy trainers")
    parser.add_argument(
        "--check", action="append", metavar="ID", help="only these checks, and the runs they need; repeatable"
    )
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=2, help="cases side by side")
    parser.add_argument(
        "--runs", metavar="PLANS", help="only checks that need no other runs than these, for instance straight,repeat"
    )
    parser.add_argument("--json", type=absolute, metavar="FILE", help="write every record here, also after each case")
    parser.add_argument("--markdown", type=absolute, metavar="FILE", help="write misses and false alarms here")
    parser.add_argument(
        "--reuse", type=absolute, metavar="FILE", help="take the records in this file of --json as they are"
    )
    options = parser.parse_args()
    checks = options.check
    if options.runs:
        plans = set(options.runs.split(","))
        checks = [check.id for check in CHECKS if set(check.needs) <= plans and (not checks or check.id in checks)]
        trimmed = (dataclasses.replace(c, wants=tuple(w for w in c.wants if w in plans)) for c in CHECKS)
        runner.CHECKS = tuple(trimmed)

    faults = [] if options.kind == "healthy" else chosen(FAULTS, options.only)
    healthy = [] if options.kind == "faults" else chosen(HEALTHY, options.only)
    needed = {f"base-{fault.base}" for fault in faults} - {case.name for case in healthy}
    bases = [case for case in HEALTHY if case.name in needed]
    cases = [*bases, *healthy, *faults]
    records = {}
    if options.reuse:
        wanted = {case.name for case in cases}
        records = {r["name"]: r for r in json.loads(options.reuse.read_text()) if r["name"] in wanted}
    todo = [case for case in cases if case.name not in records]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, ThreadPoolExecutor(options.jobs) as pool:
        empty, work = Path(folder, "empty"), Path(folder, "work")
        empty.mkdir()
        work.mkdir()
        os.chdir(empty)  # scripts see the files of the folder they start in: let that be one without other runs
        for record in pool.map(lambda case: smoke(case, work, options.steps, checks), todo):
            records[record["name"]] = record
            seen = ", ".join(dict.fromkeys(f["check"] for f in record["findings"])) or "-"
            print(f"[{len(records)}/{len(cases)}] {record['name']}: {seen}", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(list(records.values()), indent=1, default=str))
        os.chdir(ROOT)
    judged = [judge_fault(fault, records[fault.name], records[f"base-{fault.base}"]) for fault in faults]
    sound = [records[case.name] for case in healthy]
    print("\n".join(table(judged, sound)))
    print(f"{len(todo)} smoke runs in {time.perf_counter() - began:.0f} s, {options.jobs} side by side")
    if options.json:
        options.json.write_text(json.dumps(list(records.values()), indent=1, default=str))
    if options.markdown:
        options.markdown.write_text("\n".join(markdown(judged, sound)))


if __name__ == "__main__":
    main()
