"""The habits of this project that a program can check: each rule yields what is wrong with a file."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from typing import Final

from support.source import PACKAGES, Function, Source, dotted_name

FILE_LINES_MAX: Final = 300
FUNCTION_LINES_MAX: Final = 40
LONG_FUNCTION_LINES_MAX: Final = 70  # below a comment "# Long: <reason>"

# Who may import whom. Tests and benchmarks may import everybody.
IMPORTS: Final = {
    "protocol": {"protocol"},
    "trainer": {"protocol", "trainer"},
    "logger_service": {"protocol", "logger_service"},
}
# One library, one place.
LIBRARIES: Final = {
    "torch": ("trainer/",),
    "torchvision": ("trainer/",),
    "torchaudio": ("trainer/",),
    "matplotlib": ("logger_service/rendering/",),
    "prometheus_client": ("logger_service/metrics.py",),
    "tensorboardX": ("logger_service/events/",),
    "zmq": (
        *("trainer/telemetry/link.py", "trainer/telemetry/handshake.py"),
        *(f"logger_service/{name}.py" for name in ("receiver", "authenticator", "connections")),
    ),
}
PROTOCOL_LIBRARIES: Final = {"crc32c", "msgpack", "msgspec", "numpy"}
COMMAND_LINES: Final = {"trainer/demo.py", "trainer/data/synthetic.py"}  # and every __main__.py
# The edges where wall time enters; everybody else is given it.
CLOCKS: Final = {
    "logger_service/service.py",
    "trainer/__main__.py",
    "trainer/telemetry/__main__.py",
    "trainer/telemetry/channel.py",
    "trainer/telemetry/sender.py",
}
WALL_CLOCK: Final = {f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "strftime", "ctime")} | {
    f"{name}.{method}" for name in ("datetime", "datetime.datetime", "date") for method in ("now", "utcnow", "today")
}
BANNED_MODULES: Final = {"pickle", "cPickle", "dill", "shelve", "marshal", "matplotlib.pyplot", "pylab"}
BANNED_CALLS: Final = {"eval", "exec", "compile", "__import__", "breakpoint"}
BROAD: Final = {"Exception", "BaseException"}


def files_are_short(source: Source) -> Iterator[str]:
    """Find the second noun in a long file, and give it a file."""
    lines = source.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{lines} lines; at most {FILE_LINES_MAX}"


def functions_are_short(source: Source) -> Iterator[str]:
    above = ["", *(line.strip() for line in source.text.splitlines())]
    for function in (node for node in source.nodes if isinstance(node, Function)):
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        limit = LONG_FUNCTION_LINES_MAX if above[first - 1].startswith("# Long: ") else FUNCTION_LINES_MAX
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > limit:
            yield f"line {function.lineno}: {function.name} has {lines} lines; at most {limit}"


def imports_go_one_way(source: Source) -> Iterator[str]:
    """Let trainer and logger meet in the protocol only, and the protocol know neither."""
    for line, name in source.imports():
        known = IMPORTS.get(source.top, {*PACKAGES, "support"})
        if name.partition(".")[0] in {*PACKAGES, "support"} - known:
            yield f"line {line}: {source.top} imports {name}; of this project it may import {', '.join(sorted(known))}"


def libraries_have_one_place(source: Source) -> Iterator[str]:
    for line, name in source.imports() if source.top in IMPORTS else ():
        places = LIBRARIES.get(name.partition(".")[0])
        if places is not None and not source.path.startswith(places):
            yield f"line {line}: imports {name}, which belongs in {' or '.join(places)}"


def protocol_needs_little(source: Source) -> Iterator[str]:
    for line, name in source.imports() if source.top == "protocol" else ():
        if name.partition(".")[0] not in sys.stdlib_module_names | PROTOCOL_LIBRARIES | {"protocol"}:
            yield f"line {line}: imports {name}; a recording is read with {', '.join(sorted(PROTOCOL_LIBRARIES))} alone"


def only_command_lines_print(source: Source) -> Iterator[str]:
    if source.top not in IMPORTS or source.path in COMMAND_LINES or source.path.endswith("/__main__.py"):
        return
    yield from (
        f"line {line}: print() outside a command line; log it" for line, name in source.calls() if name == "print"
    )


def nothing_dangerous_is_used(source: Source) -> Iterator[str]:
    """Use no pickle, no evaluated text, and no figures that threads share."""
    for line, name in source.imports():
        if BANNED_MODULES.intersection((name, name.rpartition(".")[0])):
            yield f"line {line}: imports {name}"
    for line, name in source.calls():
        if name in BANNED_CALLS:
            yield f"line {line}: calls {name}()"


def wall_time_is_passed_in(source: Source) -> Iterator[str]:
    if source.top not in IMPORTS or source.path in CLOCKS:
        return
    for line, name in (*source.imports(), *source.calls()):
        if name in WALL_CLOCK:
            yield f"line {line}: {name}; take wall_time_ns as an argument"


def errors_are_handled(source: Source) -> Iterator[str]:
    """Log an error or raise it; drop only those that are named."""
    for node in source.nodes:
        match node:
            case ast.ExceptHandler(type=caught, body=[ast.Pass()]) if caught is None or dotted_name(caught) in BROAD:
                yield f"line {node.lineno}: drops every error"
            case ast.Call(func, args) if dotted_name(func) in ("suppress", "contextlib.suppress"):
                if BROAD.intersection(map(dotted_name, args)):
                    yield f"line {node.lineno}: suppresses every error"


def state_is_not_global(source: Source) -> Iterator[str]:
    yield from (f"line {node.lineno}: a global statement" for node in source.nodes if isinstance(node, ast.Global))


def public_names_are_documented(source: Source) -> Iterator[str]:
    """Begin the docstring of whatever is public with a sentence."""
    if source.top not in PACKAGES:
        return
    documented: list[tuple[str, ast.Module | ast.ClassDef | Function]] = [("the module", source.tree)]
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            documented.append((node.name, node))
            methods = node.body if isinstance(node, ast.ClassDef) else []
            documented += [
                (f"{node.name}.{m.name}", m) for m in methods if isinstance(m, Function) and m.name[0] != "_"
            ]
    for name, documentable in documented:
        first = (ast.get_docstring(documentable) or "").partition("\n")[0]
        if not first.endswith((".", "?", ":")):
            yield f"{name} has no docstring that begins with a sentence of one line: {first!r}"


def packages_only_export(source: Source) -> Iterator[str]:
    for node in source.tree.body if source.path.endswith("/__init__.py") else ():
        exports = isinstance(node, ast.Assign) and [dotted_name(target) for target in node.targets] == ["__all__"]
        if not (exports or isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)):
            yield f"line {node.lineno}: more than a docstring, imports and __all__"


def exceptions_to_the_linter_have_reasons(source: Source) -> Iterator[str]:
    if "noqa" not in source.text:
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        exception = token.type == tokenize.COMMENT and "noqa" in token.string
        if exception and not re.match(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \w", token.string):
            yield f"line {token.start[0]}: write '# noqa: CODE - why', not {token.string!r}"


def tests_are_no_packages(source: Source) -> Iterator[str]:
    if source.top == "tests" and source.path.endswith("/__init__.py"):
        yield "test folders hold no __init__.py"


RULES: Final[tuple[Callable[[Source], Iterator[str]], ...]] = (
    files_are_short,
    functions_are_short,
    imports_go_one_way,
    libraries_have_one_place,
    protocol_needs_little,
    only_command_lines_print,
    nothing_dangerous_is_used,
    wall_time_is_passed_in,
    errors_are_handled,
    state_is_not_global,
    public_names_are_documented,
    packages_only_export,
    exceptions_to_the_linter_have_reasons,
    tests_are_no_packages,
)
