#!/usr/bin/env python3
"""Counts of structure, prose and density, from the root of the repository. `deploy/count.py -v` lists the places.

Arrows are paths from `crate::` between the modules of a crate (the folders or files directly below `src/`); a circle is a group of modules that
reach each other. Names that the crate's root re-exports hide their module and are not counted. Doc comments are counted by group, tests are left out of type names and functions. Needs Python 3 alone.
"""
import collections
import glob
import os
import re
import sys

WINGED = ("graph", "engine")
LONGEST_LINE = 100
LONGEST_FUNCTION = 70
STEP_LINES = 25
OPENING = re.compile(r"(What|Who|Whose|Where|Why|Which|Its|When|How)\b")
WH = re.compile(r"(What|Who|Whose|Where|Why|Which|Its)\b")
DOC = re.compile(r"//[/!]( |$)(.*)")
TYPE = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?(?:struct|enum|trait|type) (\w+)", re.M)
FUNCTION = re.compile(r"^(\s*)(?:pub(?:\([^)]*\))? )?(?:const |async |unsafe )*fn (\w+)")
OF_TESTS = re.compile(r"(^|[/_])(tests?|testing|scenarios|samples|market|oracle)(_tests)?(\.rs|/)")
# Each crate has one of its own, named by its path.
COMMON = {"Error", "Options", "Metrics", "Result"}

verbose = "-v" in sys.argv


def sources(folder):
    return sorted(glob.glob(f"{folder}/**/*.rs", recursive=True))


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def shown(title, value, places=()):
    print(f"{title:<52} {value}")
    if verbose:
        for place in places:
            print(f"    {place}")


def module_of(path, root):
    return os.path.relpath(path, root).split(os.sep)[0].removesuffix(".rs")


def code_of(text):
    """The text without comments and without what follows the first inline test module."""
    text = re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]
    return re.sub(r"//[^\n]*", "", text)


def arrows_of(crate):
    root = f"crates/{crate}/src"
    modules = {module_of(path, root) for path in sources(root)} - {"lib", "main"}
    arrows = collections.defaultdict(set)
    for path in sources(root):
        here = module_of(path, root)
        if here == "lib" or OF_TESTS.search(path):
            continue
        code = code_of(text_of(path))
        named = re.findall(r"\bcrate::(\w+)", code)
        for group in re.findall(r"\bcrate::\{(.*?)\};", code, re.S):
            named += re.findall(r"(?:^|[,{])\s*(\w+)", group)
        if os.path.relpath(path, root) in (f"{here}.rs", f"{here}/mod.rs"):
            named += re.findall(r"\bsuper::(\w+)", code)
        arrows[here] |= {name for name in named if name in modules and name != here}
    return modules, arrows


def circles_of(modules, arrows):
    """Groups of two or more modules that reach each other."""

    def reached(start):
        found, waiting = set(), [start]
        while waiting:
            for next_one in arrows[waiting.pop()]:
                if next_one not in found:
                    found.add(next_one)
                    waiting.append(next_one)
        return found

    reach = {module: reached(module) for module in modules}
    groups = {frozenset(m for m in modules if m in reach[a] and a in reach[m]) for a in modules if a in reach[a]}
    return sorted((sorted(group) for group in groups if len(group) > 1), key=len, reverse=True)


def structure():
    for crate in WINGED:
        modules, arrows = arrows_of(crate)
        count = sum(len(targets) for targets in arrows.values())
        circles = circles_of(modules, arrows)
        within = sum(len(circle) for circle in circles)
        pairs = sorted(f"{a} → {b}" for a in arrows for b in arrows[a])
        shown(f"{crate}: modules, arrows between them", f"{len(modules)}, {count}", pairs)
        shown(f"{crate}: circles (modules in them)", f"{len(circles)} ({within})", map(" ".join, circles))


def functions(path, text):
    """Name, place and lines of each function that is longer than a step; a function ends at its own indentation."""
    lines = text.split("\n")
    for start, line in enumerate(lines):
        found = FUNCTION.match(line)
        if not found:
            continue
        end = start
        while end < len(lines) and not lines[end].startswith(found.group(1) + "}"):
            if lines[end].rstrip().endswith(";") and end == start:
                break
            end += 1
        yield found.group(2), f"{path}:{start + 1}", end - start + 1


def prose():
    docs = short = comments = code = 0
    wh, openings, long_lines, names, long_functions = [], [], [], collections.defaultdict(list), []
    for path in sources("crates/*/src"):
        text = text_of(path)
        inside = False
        for number, line in enumerate(text.split("\n"), 1):
            stripped = line.strip()
            doc = DOC.match(stripped)
            if doc:
                if not inside:
                    docs += 1
                    words = doc.group(2).split()
                    short += len(words) <= 3
                    if words and WH.match(words[0]):
                        wh.append(f"{path}:{number}: {stripped}")
                    elif words and OPENING.match(words[0]):
                        openings.append(f"{path}:{number}: {stripped}")
                inside = True
                continue
            inside = False
            if stripped.startswith("//"):
                comments += 1
            elif stripped:
                code += 1
                if len(line) > LONGEST_LINE:
                    long_lines.append(f"{path}:{number}")
        if not OF_TESTS.search(path):
            for name in TYPE.findall(code_of(text)):
                names[name].append(path)
            long_functions += [f"{place} {name}: {n} lines" for name, place, n in functions(path, code_of_lines(text)) if n > LONGEST_FUNCTION]
    twice = sorted(f"{name}: {' '.join(paths)}" for name, paths in names.items() if len(paths) > 1 and name not in COMMON)
    shown("type names defined twice", len(twice), twice)
    shown("doc comments", docs)
    shown("  that open with what, who, whose, where, why, its", f"{len(wh)} ({100 * len(wh) / docs:.1f} %)", wh)
    shown("  that open with when, how", f"{len(openings)} ({100 * len(openings) / docs:.1f} %)", openings)
    shown("  of three words or fewer", f"{short} ({100 * short / docs:.1f} %)")
    shown(f"code lines above {LONGEST_LINE} columns", f"{len(long_lines)} of {code} ({100 * len(long_lines) / code:.1f} %)", long_lines)
    shown("comment lines to code lines", f"{100 * comments / code:.1f} %")
    shown(f"functions above {LONGEST_FUNCTION} lines, tests aside", len(long_functions), long_functions)


def code_of_lines(text):
    """The text up to the first inline test module, lines kept."""
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def fields():
    """Files outside tests that name a field of the score record: a new one touches as many."""
    for field in ("percentile", "base_logit", "velocity_per_day"):
        paths = [p for folder in ("crates", "schemas", "docs") for p in glob.glob(f"{folder}/**/*.*", recursive=True)]
        found = sorted(p for p in paths if os.path.isfile(p) and not OF_TESTS.search(p) and "/tests/" not in p and field in read_any(p))
        shown(f"files that name the score's field {field}", len(found), found)


def read_any(path):
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "replace")


if not os.path.isdir("crates"):
    sys.exit("count: run it from the root of the repository")
structure()
prose()
fields()
