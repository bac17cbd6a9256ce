"""Numbers in the forms that torch's and tensorboardX's writers have beyond a scalar of the run.

A point has a form or names of its own, an overlay has a folder for each curve, and a row of hyperparameters has a
folder for its metrics. No function waits for a device.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Literal

from torch import Tensor

from tensorboard_sidecar.protocol.limits import DOMAIN_VALUES_MAX, OVERLAY_CURVES_MAX, TEXT_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import HParams, Overlay, Parameters, ParameterValue, Point
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.run_names import shown_run
from tensorboard_sidecar.telemetry.values import fit
from tensorboard_sidecar.telemetry.values.arrays import Note
from tensorboard_sidecar.telemetry.values.drafts import Draft
from tensorboard_sidecar.telemetry.values.fit import Cut
from tensorboard_sidecar.telemetry.values.parameters import plain_parameters
from tensorboard_sidecar.telemetry.values.scalars import Scalar, check_scalar, split_scalars
from tensorboard_sidecar.telemetry.values.tags import distinct_tag

Form = Literal["simple", "float", "double"]
_REMEMBERED_CURVES_MAX: Final = 64


def point(tag: str, value: Scalar, form: Form, display_name: Any, description: Any, note: Note) -> Draft:
    """Return the draft of one point of one curve. Raises TypeError or ValueError for a value that is no single number.

    ``description`` is markdown.
    """
    split = split_scalars({tag: check_scalar(value)})
    name = fit.label("display_name", display_name, note)
    described = fit.text("summary_description", description, note, TEXT_MAX_CHARACTERS)
    return Draft(
        Kind.POINT, split.on_device, lambda copied: Point(tag, split.merge(copied)[tag], form, name, described)
    )


def folder_in_run(name: str) -> str:
    """Return the path in the run's folder for a user's name. Raises Malformed for a name without a folder.

    >>> folder_in_run("../trial 1/")
    'trial 1'
    """
    return shown_run(name).run


def curve_folders(main_tag: str, names: Mapping[str, Any]) -> dict[str, str]:
    """Return the folder of each curve of an overlay, by the curve's name: ``<main_tag with _ for />_<name>``.

    >>> curve_folders("loss/all", {"train": 0.5, "val": 0.25})
    {'train': 'loss_all_train', 'val': 'loss_all_val'}
    """
    folders = _folders if len(names) <= _REMEMBERED_CURVES_MAX else _folders.__wrapped__
    return dict(zip(names, folders(main_tag, tuple(names)), strict=True))


# A training loop gives the same names at each step. Tags bound the names: all remembered folders are 16 MiB at most.
@lru_cache(maxsize=256)
def _folders(main_tag: str, names: tuple[str, ...]) -> tuple[str, ...]:
    taken: dict[str, None] = {}
    for name in names:
        taken[distinct_tag(folder_in_run(f"{main_tag.replace('/', '_')}_{name}"), taken)] = None
    return tuple(taken)


def overlays(tag: str, values: Mapping[str, float | Tensor]) -> Iterator[Draft]:
    """Yield the drafts of points with one tag in several folders: results of ``check_scalar`` by folder."""
    items = iter(values.items())
    while part := dict(islice(items, OVERLAY_CURVES_MAX)):
        split = split_scalars(part)

        def build(copied: Any, split: Any = split) -> Overlay:
            return Overlay(tag, split.merge(copied))

        yield Draft(Kind.OVERLAY, split.on_device, build)


def hparams_row(
    parameters: Parameters, metrics: dict[str, float | Tensor], folder: str, domains: Any, note: Note
) -> Draft:
    """Return the draft of a row of TensorBoard's HParams tab, with its metrics as curves in ``folder``.

    ``parameters`` are plain, ``metrics`` are results of ``check_scalar``.
    """
    split = split_scalars(fit.first_values("metrics", metrics, note))
    known = _domains(domains, parameters, note)
    return Draft(Kind.HPARAMS, split.on_device, lambda copied: HParams(parameters, split.merge(copied), folder, known))


def _domains(domains: Any, parameters: Parameters, note: Note) -> dict[str, list[ParameterValue]]:
    """Return the values that each parameter may take; a domain that cannot be shown is left out and noted."""
    if domains is None:
        return {}
    made: dict[str, list[ParameterValue]] = {}
    bad: list[str] = []
    if not isinstance(domains, Mapping):
        bad.append(f"a {type(domains).__name__}; expected a list of values by parameter")
        domains = {}
    for name, values in domains.items():
        if len(made) == DOMAIN_VALUES_MAX:
            bad.append(f"more than {DOMAIN_VALUES_MAX:,}")
            break
        try:
            made[str(name)] = _domain(name, values, parameters)
        except Exception as error:  # noqa: BLE001 - the other domains are kept, whatever the error
            bad.append(f"{name!s:.40}: {error!s:.100}")
    if bad:
        note(Cut("hparam_domain_discrete", f"domains are left out: {'; '.join(bad[:10])}"))
    return made


def _domain(name: Any, values: Any, parameters: Parameters) -> list[ParameterValue]:
    if name not in parameters:
        raise ValueError("no parameter of that name")
    if isinstance(values, str | bytes | Mapping):
        raise TypeError(f"a {type(values).__name__}; expected a list of values")
    given = list(islice(values, DOMAIN_VALUES_MAX + 1))
    if len(given) > DOMAIN_VALUES_MAX:
        raise ValueError(f"more than {DOMAIN_VALUES_MAX:,} values")
    plain = plain_parameters({str(place): value for place, value in enumerate(given)})
    if plain.left_out:
        raise ValueError(plain.left_out)
    made = list(plain.values.values())
    kinds = {_kind(value) for value in (*made, parameters[name])}
    if len(kinds) > 1:
        raise TypeError("values of another type than the parameter's")
    return made


def _kind(value: ParameterValue) -> type:
    """Return the type that TensorBoard gives a value: int and float are one."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)
