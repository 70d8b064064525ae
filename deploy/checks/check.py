#!/usr/bin/env python3
"""Checks of the house that no compiler makes.

    check.py arrows            crates link only what arrows.txt allows; roots forbid unsafe
    check.py packages          the packages of packages.txt are in the build
    check.py sizes             top-level entries, file lengths, roots that only declare
    check.py skips FILE        tests that said `skipped: why`, out of a JUnit report
    check.py schema FILE JSON  the JSON file holds one object that its schema accepts

Exit status: 0 all well, 1 a rule is broken (each on its own line), 77 skipped (schema only:
no validator installed). Needs Python 3.9 and, for `schema`, python3-jsonschema.
"""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLES = Path(__file__).resolve().parent
SKIPPED = 77

TOP_LEVEL = set(
    "Cargo.toml Cargo.lock rust-toolchain.toml LICENSE CHANGELOG.md README.md"
    " gateway dataplane chain bridge operator-adapters benches deploy".split()
)
LINES_MAX = 800
MAIN_LINES_MAX = 120
BANNED_MODULES = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}

# Layers that each layer may link.
MAY_LINK = {
    "base": {"base"},
    "library": {"base", "library"},
    "component": {"base", "library"},
    "bench": {"base", "library", "component"},
    "top": {"base", "library", "component", "bench"},
}


def table(name):
    """Rows of a table file as lists of words, without comments."""
    lines = (TABLES / name).read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def metadata(*features):
    """Workspace members by name, and the resolved graph as {package id: node}."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    command += [f"--features={feature}" for feature in features]
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if out.returncode != 0:
        sys.exit("cargo metadata failed: is Cargo.lock up to date?")
    data = json.loads(out.stdout)
    packages = {package["id"]: package for package in data["packages"]}
    members = {packages[i]["name"]: packages[i] for i in data["workspace_members"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    return members, packages, nodes


def read_arrows():
    """arrows.txt as a dictionary of its directives."""
    rules = {"layer": {}, "dev": set(), "unsafe": set(), "sansio": set(), "io": set(), "only": []}
    for word, *rest in table("arrows.txt"):
        if word == "layer":
            for package in rest[1:]:
                rules["layer"][package] = rest[0]
        elif word == "dev":
            rules["dev"].add(tuple(rest))
        elif word == "only":
            rules["only"].append((rest[0], set(rest[1:])))
        else:
            rules[word].update(rest)
    return rules


def matches(pattern, name):
    """Whether a crate's name is the pattern, or begins with it where it ends in a star."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def arrow_faults(package, rules, members):
    """Every arrow out of one workspace member that the table does not allow."""
    name = package["name"]
    layer = rules["layer"].get(name)
    if layer is None:
        yield f"{name}: has no layer in arrows.txt"
        return
    for dependency in package["dependencies"]:
        target, dev = dependency["name"], dependency["kind"] == "dev"
        for pattern, allowed in rules["only"]:
            if matches(pattern, target) and name not in allowed:
                yield f"{name} -> {target}: only {', '.join(sorted(allowed))} may name it"
        if name in rules["sansio"] and target in rules["io"] and not dev:
            yield f"{name} -> {target}: {name} is sans-I/O"
        if target not in members or target == name:
            continue
        target_layer = rules["layer"].get(target, "unknown")
        if target_layer in MAY_LINK[layer]:
            continue
        if not (dev and (name, target) in rules["dev"]):
            yield f"{name} ({layer}) -> {target} ({target_layer}): no such arrow"


def unsafe_faults(package, rules):
    """Library and binary roots that do not forbid unsafe code."""
    if package["name"] in rules["unsafe"]:
        return
    for target in package["targets"]:
        if {"lib", "bin", "rlib", "proc-macro"} & set(target["kind"]):
            root = Path(target["src_path"])
            if "#![forbid(unsafe_code)]" not in root.read_text(encoding="utf-8"):
                yield f"{root.relative_to(ROOT)}: lacks #![forbid(unsafe_code)]"


def arrows():
    """Faults of the arrow table."""
    members, _, _ = metadata()
    rules = read_arrows()
    arrows_seen = 0
    for package in members.values():
        arrows_seen += sum(d["name"] in members for d in package["dependencies"])
        yield from arrow_faults(package, rules, members)
        yield from unsafe_faults(package, rules)
    for name in rules["layer"]:
        if name not in members:
            yield f"arrows.txt: {name} is not in the workspace"
    print(f"{len(members)} crates, {arrows_seen} arrows between them")


def reachable(root, nodes):
    """Ids of every package that a build of `root` links or runs, tests aside."""
    seen, open_ids = set(), [root]
    while open_ids:
        current = open_ids.pop()
        if current in seen:
            continue
        seen.add(current)
        for dependency in nodes[current]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                open_ids.append(dependency["pkg"])
    return seen


def built(*features):
    """Names of every package that the binary `qlink` reaches with these of its features on."""
    members, by_id, nodes = metadata(*(f"qlink/{feature}" for feature in features))
    return {by_id[i]["name"] for i in reachable(members["qlink"]["id"], nodes)}


def packages():
    """Faults of the named packages."""
    members, _, _ = metadata()
    if "qlink" not in members:
        yield "no package `qlink` in the workspace"
        return
    default = built()
    for name, due, *place in table("packages.txt"):
        linked_by = sorted(
            member["name"]
            for member in members.values()
            if any(d["name"] == name and d["kind"] != "dev" for d in member["dependencies"])
        )
        there = bool(linked_by) and name in default
        if due == "now" and not there:
            yield f"{name}: gone from the build of `qlink` (place: {' '.join(place)})"
        elif due == "later" and (there or name in members):
            yield f"{name}: is in the build; packages.txt still says `later`"
        elif due not in ("now", "later") and name not in built(due):
            yield f"{name}: gone from the build of `qlink` with its feature `{due}`"
        elif due not in ("now", "later") and there:
            yield f"{name}: is in the build without the feature `{due}`"
        else:
            print(f"{name:<14} {', '.join(linked_by) or 'NOT IN THE BUILD YET: ' + ' '.join(place)}")


def tracked(*patterns):
    """Files of the repository, also those not yet committed, as paths from its root."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", *patterns]
    out = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    return [path for path in out.split("\0") if path and (ROOT / path).is_file()]


def file_faults(path):
    """Faults of one source file."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    name = Path(path).name
    if len(lines) >= LINES_MAX:
        yield f"{path}: {len(lines)} lines, fewer than {LINES_MAX} are allowed"
    if name == "main.rs" and len(lines) > MAIN_LINES_MAX:
        yield f"{path}: {len(lines)} lines, a main.rs has at most {MAIN_LINES_MAX}"
    if {Path(path).stem, Path(path).parent.name} & BANNED_MODULES:
        yield f"{path}: a module is named after what it holds"
    if name in ("lib.rs", "mod.rs") and "/tests/" not in path:
        for number, line in enumerate(lines, start=1):
            if re.match(r"(pub(\([^)]*\))? )?(const )?(async )?(unsafe )?(fn|struct|enum|impl|trait)\b", line):
                yield f"{path}:{number}: {name} holds docs, mod and pub use only"


def sizes():
    """Faults of the layout."""
    entries = {Path(path).parts[0] for path in tracked()}
    for entry in sorted(entries - TOP_LEVEL):
        if not entry.startswith("."):
            yield f"{entry}: no such top-level entry in the house"
    files = tracked("*.rs", "*.py", "*.sh", "*.js", "*.html", "*.css")
    for path in files:
        yield from file_faults(path)
    print(f"{len(files)} source files")


def skips(report):
    """Tests of a JUnit report that said they were skipped."""
    tree = ElementTree.parse(report)
    count = 0
    for case in tree.iter("testcase"):
        count += 1
        for output in case.iter("system-out"):
            for line in (output.text or "").splitlines():
                if line.startswith("skipped: "):
                    yield f"{case.get('classname')} {case.get('name')}: {line}"
    print(f"{count} tests read for skips")


def schema(schema_file, json_file):
    """Faults of one JSON document against its schema."""
    try:
        import jsonschema
    except ImportError:
        print("skipped: no python3-jsonschema for", sys.executable)
        sys.exit(SKIPPED)
    document = json.loads(Path(json_file).read_text(encoding="utf-8"))
    rules = json.loads(Path(schema_file).read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(rules)
    validator.check_schema(rules)
    for error in validator(rules).iter_errors(document):
        yield f"{'/'.join(map(str, error.absolute_path)) or '(root)'}: {error.message[:300]}"


CHECKS = {"arrows": 0, "packages": 0, "sizes": 0, "skips": 1, "schema": 2}


def main():
    """Runs the check that the command line names."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in CHECKS or CHECKS[name] != len(arguments):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    faults = list(globals()[name](*arguments))
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
