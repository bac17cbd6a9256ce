"""The rules of this project that a program can check; each rule yields the problems of a file."""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from typing import Final

from support.source import PACKAGE, PACKAGES, ROOMS, Function, Source, dotted_name, room_of

FUNCTION_LINES_MAX: Final = 40
LONG_FUNCTION_LINES_MAX: Final = 70  # below a comment "# Long: <reason>"
ATTRIBUTES_MAX: Final = 10  # a class with more attributes is probably two things
FOLDER_FILES_MAX: Final = 20  # a folder with more files is not understood at a glance

# The rooms, or single modules, that a room may import besides itself. A room without an entry may import nothing of
# this project. Tests and benchmarks may import everything.
MAY_IMPORT: Final[dict[str, tuple[str, ...]]] = {
    "protocol": (),
    "protocol.storage": ("protocol",),
    "protocol.outbox": ("protocol", "protocol.storage"),
    "protocol.helper": ("protocol", "protocol.storage", "protocol.outbox"),
    "telemetry.values": ("protocol",),
    "telemetry.outbox": ("protocol", "protocol.storage", "protocol.outbox", "telemetry.values"),
    "telemetry.shipping": ("protocol", "protocol.storage", "protocol.outbox", "protocol.helper", "telemetry.outbox"),
    "telemetry.recovery": ("protocol", "protocol.storage", "protocol.outbox", "protocol.helper", "telemetry.shipping"),
    "telemetry.writer": ("protocol", "telemetry.values", "telemetry.calls"),
    "telemetry.replacement.startup": (),
    "telemetry.replacement": ("protocol", "protocol.outbox", "protocol.helper", "telemetry.replacement.startup"),
    "telemetry": (
        *("protocol", "protocol.storage", "protocol.outbox", "protocol.helper"),
        *("telemetry.values", "telemetry.outbox", "telemetry.shipping", "telemetry.writer"),
    ),
    "telemetry.integrations": ("telemetry",),
    "telemetry.probe": ("protocol", "protocol.storage", "telemetry"),
    "trainer.data": (),
    "trainer": ("protocol", "protocol.storage", "protocol.outbox", "telemetry.values", "trainer.data", ""),
    "logger_service.folders": ("protocol", "protocol.storage", "logger_service.errors"),
    "logger_service.access": (
        *("protocol", "protocol.storage"),
        *("logger_service.errors", "logger_service.counters", "logger_service.limits"),
    ),
    "logger_service.rendering": ("protocol",),
    "logger_service.events": ("protocol", "protocol.storage", "logger_service.rendering"),
    "logger_service.intake": (
        *("protocol", "protocol.storage", "protocol.outbox"),
        *("logger_service.errors", "logger_service.counters", "logger_service.limits"),
        *("logger_service.folders", "logger_service.access"),
    ),
    "logger_service.findings": ("protocol",),
    "logger_service.findings.rules": ("protocol", "logger_service.findings"),
    "logger_service.projection": (
        *("protocol", "protocol.storage"),
        *("logger_service.findings", "logger_service.findings.rules"),
        *("logger_service.counters", "logger_service.events", "logger_service.folders"),
    ),
    "logger_service.helper": (
        *("protocol", "protocol.storage", "protocol.outbox", "protocol.helper"),
        *("logger_service.precedence", "logger_service.folders", "logger_service.projection"),
    ),
    "logger_service.hooks": (
        *("protocol",),
        *("logger_service.errors", "logger_service.counters", "logger_service.limits"),
    ),
    "logger_service.offline": ("protocol", "protocol.storage", "logger_service.events"),
    "logger_service.doctor": (
        *("protocol", "protocol.storage", "logger_service.events"),
        *("logger_service.findings", "logger_service.findings.rules"),
    ),
    "logger_service.monitoring": (
        *("logger_service.config", "logger_service.counters"),
        *("logger_service.errors", "logger_service.limits"),
        *("logger_service.folders", "logger_service.access", "logger_service.hooks", "logger_service.intake"),
        *("logger_service.projection",),
    ),
    "logger_service": (
        *("protocol", "protocol.storage", "protocol.outbox", "logger_service.folders", "logger_service.access"),
        *("logger_service.hooks", "logger_service.intake", "logger_service.projection"),
        *("logger_service.offline", "logger_service.monitoring", "logger_service.doctor"),
        "logger_service.findings.rules",
    ),
    "": ("telemetry", "protocol.version", "protocol.address", "protocol.finding"),
    "integrations": ("telemetry.integrations",),
}
# One library, one place.
LIBRARIES: Final = {
    "accelerate": ("telemetry/integrations/accelerate.py",),
    "ignite": ("telemetry/integrations/ignite.py",),
    "lightning": ("telemetry/integrations/lightning.py",),
    "torch": ("telemetry/", "trainer/"),
    "transformers": ("telemetry/integrations/transformers.py",),
    "torchvision": ("trainer/",),
    "torchaudio": ("trainer/",),
    "matplotlib": ("logger_service/rendering/", "telemetry/values/figures.py"),
    "onnx": ("telemetry/values/model_files.py",),
    "prometheus_client": ("logger_service/monitoring/health.py",),
    "tensorboardX": ("logger_service/events/",),
    "zmq": (
        "telemetry/shipping/link.py",
        *("logger_service/intake/receiver.py",),
        *("logger_service/access/authenticator.py", "logger_service/access/connection_monitor.py"),
    ),
}
PROTOCOL_LIBRARIES: Final = {"crc32c", "msgpack", "msgspec", "numpy"}
COMMAND_LINES: Final = {
    "protocol/printable.py",
    "trainer/demo.py",
    "trainer/data/synthetic.py",
    "telemetry/recovery/commands.py",
    "telemetry/replacement/commands.py",
    "telemetry/probe/commands.py",
    "logger_service/commands.py",
    "trainer/commands.py",
}  # and every __main__.py
# The modules that read the wall clock; all others take the time as an argument.
CLOCKS: Final = {
    "logger_service/commands.py",
    "logger_service/service.py",
    "logger_service/helper/command.py",
    "logger_service/helper/helper.py",
    "telemetry/summary_writer.py",
    "trainer/commands.py",
    "telemetry/recovery/commands.py",
    "telemetry/pipeline.py",
    "telemetry/scalar_calls.py",
    "telemetry/shipping/sender.py",
    "telemetry/writer/curve_methods.py",
}
WALL_CLOCK: Final = {f"time.{name}" for name in ("time", "time_ns", "localtime", "gmtime", "strftime", "ctime")} | {
    f"{name}.{method}" for name in ("datetime", "datetime.datetime", "date") for method in ("now", "utcnow", "today")
}
BANNED_MODULES: Final = {"pickle", "cPickle", "dill", "shelve", "marshal", "matplotlib.pyplot", "pylab"}
BANNED_CALLS: Final = {"eval", "exec", "compile", "__import__", "breakpoint"}
BROAD: Final = {"Exception", "BaseException"}


def functions_are_short(source: Source) -> Iterator[str]:
    above = ["", *(line.strip() for line in source.text.splitlines())]
    for function in (node for node in source.nodes if isinstance(node, Function)):
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        limit = LONG_FUNCTION_LINES_MAX if above[first - 1].startswith("# Long: ") else FUNCTION_LINES_MAX
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > limit:
            yield f"line {function.lineno}: {function.name} has {lines} lines; at most {limit}"


def imports_go_by_the_full_name(source: Source) -> Iterator[str]:
    """Import this project by its full name only: a user's folder may have the short name too."""
    for line, name in source.imports():
        if name.partition(".")[0] in ROOMS:
            yield f"line {line}: imports {name}; write {PACKAGE}.{name}"


def imports_go_one_way(source: Source) -> Iterator[str]:
    """Let each room import what MAY_IMPORT allows, and no product code import tests or benchmarks."""
    if source.top not in PACKAGES or source.top == "benchmarks":
        return
    for line, name in source.imports():
        top, _, module = name.partition(".")
        if top in ("tests", "support", "benchmarks"):
            yield f"line {line}: the product imports {name}"
        if top == PACKAGE:
            room, allowed = room_of(module), MAY_IMPORT.get(source.room, ())
            if room != source.room and room not in allowed and not module_is_one_of(module, allowed):
                yield f"line {line}: {source.room or PACKAGE} imports {name}; it may import {', '.join(allowed)}"


def module_is_one_of(module: str, allowed: tuple[str, ...]) -> bool:
    """Tell whether a module, or the module of a name, is allowed as a single module."""
    return module in allowed or (module.rpartition(".")[0] in allowed and module.rpartition(".")[0] not in MAY_IMPORT)


def classes_are_one_thing(source: Source) -> Iterator[str]:
    """Give a class few attributes, or a comment "# Wide: <reason>" above the class."""
    above = ["", *(line.strip() for line in source.text.splitlines())]
    for node in source.nodes if source.top in PACKAGES else ():
        if isinstance(node, ast.ClassDef):
            names = {
                target.attr
                for method in node.body
                if isinstance(method, Function) and method.name == "__init__"
                for part in ast.walk(method)
                if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
                for target in [part]
                if dotted_name(target.value) == "self"
            }
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if len(names) > ATTRIBUTES_MAX and not above[first - 1].startswith("# Wide: "):
                yield f"line {node.lineno}: {node.name} has {len(names)} attributes; at most {ATTRIBUTES_MAX}"


def libraries_have_one_place(source: Source) -> Iterator[str]:
    for line, name in source.imports() if source.top in ROOMS else ():
        places = LIBRARIES.get(name.partition(".")[0])
        if places is not None and not source.path.startswith(places):
            yield f"line {line}: imports {name}, which belongs in {' or '.join(places)}"


def protocol_needs_little(source: Source) -> Iterator[str]:
    for line, name in source.imports() if source.top == "protocol" else ():
        if name.partition(".")[0] not in sys.stdlib_module_names | PROTOCOL_LIBRARIES | {PACKAGE}:
            yield f"line {line}: imports {name}; a recording is read with {', '.join(sorted(PROTOCOL_LIBRARIES))} alone"


def only_command_lines_print(source: Source) -> Iterator[str]:
    if source.top not in ROOMS or source.path in COMMAND_LINES or source.path.endswith("/__main__.py"):
        return
    yield from (
        f"line {line}: print() outside a command line; log it" for line, name in source.calls() if name == "print"
    )


def nothing_dangerous_is_used(source: Source) -> Iterator[str]:
    """Use no pickle, no eval, and no pyplot, whose figures are shared by threads."""
    for line, name in source.imports():
        if BANNED_MODULES.intersection((name, name.rpartition(".")[0])):
            yield f"line {line}: imports {name}"
    for line, name in source.calls():
        if name in BANNED_CALLS:
            yield f"line {line}: calls {name}()"


def wall_time_is_passed_in(source: Source) -> Iterator[str]:
    if source.top not in ROOMS or source.path in CLOCKS:
        return
    for line, name in (*source.imports(), *source.calls()):
        if name in WALL_CLOCK:
            yield f"line {line}: {name}; take wall_time_ns as an argument"


def errors_are_handled(source: Source) -> Iterator[str]:
    """Log an error or raise it; suppress only named errors."""
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
    """Give each public module, class and function a docstring that begins with a sentence."""
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


# These export Telemetry at its first use, so that programs without torch can import them.
LAZY_PACKAGES: Final = ("src/tensorboard_sidecar/__init__.py", "telemetry/__init__.py")


def packages_only_export(source: Source) -> Iterator[str]:
    if not source.path.endswith("/__init__.py") or source.path in LAZY_PACKAGES:
        return
    for node in source.tree.body:
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
    functions_are_short,
    imports_go_by_the_full_name,
    imports_go_one_way,
    classes_are_one_thing,
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
