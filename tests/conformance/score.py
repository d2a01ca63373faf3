#!/usr/bin/env python3
"""Score a result file of the http-tests/cache-tests suite.

  score.py RESULTS.json TESTS.json [options]       one report
  score.py --table TESTS.json NAME=RESULTS.json... a table of peers

TESTS.json is the suite's definitions as a JSON array of suites (what its
`npm run export` prints; the driver writes one without needing ajv).

Encoding of a result file (suite: test-engine/lib/results.mjs):
  id absent                      untested
  a dependency is not pass/yes   dependency_fail (recursive; before all else)
  ["Setup", "retry"]             retry: the cache sent the request twice
  ["Setup", message]             setup_fail: an unchecked precondition failed
  ["AbortError", ...] or false   harness_fail (the client gives up after 10 s)
  true                           pass (required, optimal) or yes (check)
  anything else                  fail / optional_fail / no, by the test's kind
The default kind is "required".

Which tests count: browser_only never for a proxy, cdn_only and browser_skip
never for a browser. The suite does run cdn_only tests on a reverse proxy;
--no-cdn leaves them out of the totals.

For CI: --expect FILE (required ids that may miss) or --golden FILE (the
verdict of every test); both end with 1 on any difference, in either direction.
"""
import argparse
import json
import os
import sys
from collections import Counter, OrderedDict

PASSING = ("pass", "yes")
NON_PASS = ("fail", "optional_fail", "no", "setup_fail", "retry",
            "dependency_fail", "harness_fail", "untested")


class Suite:
    def __init__(self, path, kinds_from=None):
        with open(path, encoding="utf-8") as f:
            self.groups = json.load(f)
        self.tests = OrderedDict()
        for g in self.groups:
            for t in g["tests"]:
                if t["id"] in self.tests:
                    raise SystemExit(f"duplicate test id {t['id']}")
                self.tests[t["id"]] = (g["id"], t)
        self.kinds = {i: t.get("kind", "required") for i, (_, t) in self.tests.items()}
        self.rekinded = []
        if kinds_from:
            other = Suite(kinds_from)
            for i, k in self.kinds.items():
                if i in other.kinds and other.kinds[i] != k:
                    self.kinds[i] = other.kinds[i]
                    self.rekinded.append(i)

    def applies(self, test_id, browser=False, cdn=True):
        t = self.tests[test_id][1]
        if browser:
            return not (t.get("cdn_only") or t.get("browser_skip"))
        return not (t.get("browser_only") or (t.get("cdn_only") and not cdn))

    def verdict(self, test_id, results, _seen=()):
        if test_id not in self.tests:
            raise SystemExit(f"a test depends on {test_id}, which is not defined")
        if test_id in _seen:
            raise SystemExit(f"dependency cycle at {test_id}")
        if test_id not in results:
            return "untested"
        for dep in self.tests[test_id][1].get("depends_on") or ():
            if self.verdict(dep, results, _seen + (test_id,)) not in PASSING:
                return "dependency_fail"
        r = results[test_id]
        kind = self.kinds[test_id]
        if isinstance(r, list) and r:
            if r[0] == "Setup":
                return "retry" if len(r) > 1 and r[1] == "retry" else "setup_fail"
            if r[0] == "AbortError":
                return "harness_fail"
        if r is False:
            return "harness_fail"
        ok = r is True
        if kind == "required":
            return "pass" if ok else "fail"
        if kind == "optimal":
            return "pass" if ok else "optional_fail"
        if kind == "check":
            return "yes" if ok else "no"
        raise SystemExit(f"unknown kind {kind} of {test_id}")


def why(results, test_id):
    r = results.get(test_id)
    if isinstance(r, list):
        return ": ".join(str(x) for x in r)
    return ""


def read_ids(path):
    """ids, one per line; # begins a comment"""
    with open(path, encoding="utf-8") as f:
        return {line.split("#")[0].strip() for line in f} - {""}


def tally(suite, results, browser, cdn, skip=frozenset()):
    per_kind = {k: Counter() for k in ("required", "optimal", "check")}
    per_group = OrderedDict()
    verdicts = {}
    for i, (g, _) in suite.tests.items():
        if i in skip or not suite.applies(i, browser, cdn):
            continue
        v = suite.verdict(i, results)
        verdicts[i] = v
        k = suite.kinds[i]
        per_kind[k][v] += 1
        per_group.setdefault(g, {x: Counter() for x in per_kind})[k][v] += 1
    return verdicts, per_kind, per_group


def others(c):
    names = (("setup_fail", "setup"), ("dependency_fail", "dependency"), ("retry", "retry"),
             ("harness_fail", "harness"), ("untested", "untested"))
    return ", ".join(f"{c[n]} {s}" for n, s in names if c[n])


def report(suite, results, a):
    verdicts, kinds, groups = tally(suite, results, a.browser, not a.no_cdn, a.skipped)
    unknown = sorted(set(results) - set(suite.tests))
    req, opt, chk = kinds["required"], kinds["optimal"], kinds["check"]
    n_req, n_opt, n_chk = (sum(c.values()) for c in (req, opt, chk))
    print(f"required  {req['pass']:3d} passed  {req['fail']:3d} failed  of {n_req:3d}"
          f"   ({others(req) or 'none undecided'})")
    print(f"optimal   {opt['pass']:3d} passed  {opt['optional_fail']:3d} missed  of {n_opt:3d}"
          f"   ({others(opt) or 'none undecided'})")
    print(f"check     {chk['yes']:3d} yes     {chk['no']:3d} no      of {n_chk:3d}"
          f"   ({others(chk) or 'none undecided'})")
    if suite.rekinded:
        print(f"({len(suite.rekinded)} tests scored with the kind of --kinds)")
    if unknown:
        print(f"({len(unknown)} results of tests that are not defined here: {' '.join(unknown[:8])}"
              f"{' ...' if len(unknown) > 8 else ''})")
    errors = sorted(i for i, r in results.items()
                    if isinstance(r, list) and r and r[0] not in ("Assertion", "Setup"))
    if errors:
        print(f"({len(errors)} results are errors of the client or the connection, not assertions: "
              f"{' '.join(errors[:12])}{' ...' if len(errors) > 12 else ''})")

    def cell(good, c):
        total = sum(c.values())
        return f"{c[good]}/{total}" if total else "-"
    print()
    print(f"{'suite':22} {'required':>9} {'optimal':>9} {'check yes':>10}  required, not passed")
    for g, k in groups.items():
        bad = {v: n for v, n in k["required"].items() if v != "pass"}
        print(f"{g:22} {cell('pass', k['required']):>9} {cell('pass', k['optimal']):>9}"
              f" {cell('yes', k['check']):>10}  "
              + ", ".join(f"{n} {v}" for v, n in sorted(bad.items())))

    def listing(title, kind, wanted):
        rows = [i for i, v in verdicts.items() if suite.kinds[i] == kind and v in wanted]
        if rows:
            print(f"\n{title} ({len(rows)})")
            for i in rows:
                g, t = suite.tests[i]
                print(f"  {i} [{g}] {t['name']}")
                if a.why and why(results, i):
                    print(f"      {why(results, i)[:300]}")
    listing("required, failed", "required", ("fail", "harness_fail"))
    listing("required, not decided: setup failed or retried", "required", ("setup_fail", "retry", "untested"))
    if a.all:
        listing("required, not decided: dependency failed", "required", ("dependency_fail",))
        listing("optimal, missed", "optimal", NON_PASS)
        listing("check, yes", "check", ("yes",))
        listing("check, no or undecided", "check", NON_PASS)

    rc = 0
    if a.expect:
        allowed = read_ids(a.expect)
        missed = {i for i, v in verdicts.items() if suite.kinds[i] == "required" and v != "pass"}
        for label, ids in (("not on the list of expected misses", missed - allowed),
                           ("on the list, yet passed (or not required)", allowed - missed)):
            if ids:
                rc = 1
                print(f"\n{label}: {' '.join(sorted(ids))}")
        print(f"\nexpectations {'MET' if rc == 0 else 'NOT MET'} ({len(allowed)} listed)")
    if a.write_golden:
        with open(a.write_golden, "w", encoding="utf-8") as f:
            for i, v in sorted(verdicts.items()):
                f.write(f"{i} {v}\n")
    if a.golden:
        with open(a.golden, encoding="utf-8") as f:
            rows = (line.split("#")[0].split() for line in f)
            golden = {r[0]: r[1:] for r in rows if r}  # several verdicts: any of them
        diff = [(i, golden.get(i), v) for i, v in sorted(verdicts.items())
                if i in golden and v not in golden[i]]
        gone = sorted(set(golden) - set(verdicts))
        for i, want, v in diff:
            print(f"\n{i}: {v}, expected {' or '.join(want)}  {why(results, i)[:160]}", end="")
        if gone:
            print(f"\nnot run, yet in the golden file: {' '.join(gone)}", end="")
        print(f"\ngolden verdicts {'NOT MET' if diff or gone else 'MET'}"
              f" ({len(golden)} pinned, {len(set(verdicts) - set(golden))} not)")
        rc = rc or int(bool(diff or gone))
    if a.max_fail is not None and req["fail"] > a.max_fail:
        print(f"\nmore than {a.max_fail} required tests failed")
        rc = 1
    return rc


def table(suite, pairs, a):
    print("| peer | required pass | fail | dep. | setup/retry | harness | untested | of "
          "| optimal pass | of | check yes | no | undecided |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    browsers = set(filter(None, (a.browsers or "").split(",")))
    for pair in pairs:
        name, _, path = pair.partition("=")
        with open(path, encoding="utf-8") as f:
            results = json.load(f)
        _, k, _ = tally(suite, results, name in browsers, not a.no_cdn, a.skipped)
        r, o, c = k["required"], k["optimal"], k["check"]
        undecided = sum(c.values()) - c["yes"] - c["no"]
        print(f"| {name} | {r['pass']} | {r['fail']} | {r['dependency_fail']} "
              f"| {r['setup_fail'] + r['retry']} | {r['harness_fail']} | {r['untested']} "
              f"| {sum(r.values())} | {o['pass']} | {sum(o.values())} "
              f"| {c['yes']} | {c['no']} | {undecided} |")
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("first")
    p.add_argument("rest", nargs="+")
    p.add_argument("--table", action="store_true", help="TESTS.json NAME=RESULTS.json ...")
    p.add_argument("--browser", action="store_true", help="the results are a browser's")
    p.add_argument("--browsers", help="with --table: which names are browsers, by comma")
    p.add_argument("--no-cdn", action="store_true", help="leave the cdn_only tests out")
    p.add_argument("--kinds", help="take the kinds of tests with the same id from this export (not sound where it also expects something else)")
    p.add_argument("--why", action="store_true", help="print the suite's message with each failure")
    p.add_argument("--all", action="store_true", help="list every test that is not a plain pass")
    p.add_argument("--expect", help="file of required ids that may miss; exit 1 on any difference")
    p.add_argument("--skip", help="file of ids to leave out of every total (e.g. obsolete ones)")
    p.add_argument("--golden", help="file of 'id verdict' lines; exit 1 on any difference")
    p.add_argument("--write-golden", help="write that file from this run, for review")
    p.add_argument("--max-fail", type=int, help="exit 1 if more required tests fail")
    a = p.parse_args()
    a.skipped = read_ids(a.skip) if a.skip else frozenset()
    if a.table:
        return table(Suite(a.first, a.kinds), a.rest, a)
    if len(a.rest) != 1:
        p.error("RESULTS.json TESTS.json")
    with open(a.first, encoding="utf-8") as f:
        text = f.read()
    try:
        results = json.loads(text)
    except ValueError as e:
        raise SystemExit(f"{a.first} is no result file: {e}")
    return report(Suite(a.rest[0], a.kinds), results, a)


if __name__ == "__main__":
    try:
        rc = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, grep -q) had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        rc = 1
    sys.exit(rc)
