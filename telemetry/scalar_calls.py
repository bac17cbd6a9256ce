"""The short path of a call with one scalar: ``SummaryWriter.add_scalar``, which loops call a dozen times at each step.

A plain call (a known tag, a number in host memory, an int as step) goes from here straight into the outbox. All other
calls go through ``Telemetry.scalars``, which checks tags, reports faults, and knows devices and a full outbox.
"""

from time import time_ns
from typing import Any

from tensorboard_sidecar.protocol.limits import STEP_MAX, TAGS_MAX
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry.calls import Faults, StepCost
from tensorboard_sidecar.telemetry.pipeline import Pipeline
from tensorboard_sidecar.telemetry.values.scalars import CheckedTags, host_number


class ScalarCalls:
    """Keeps single scalars in ``pipeline``; ``tags`` are the tags that ``Telemetry.scalars`` has checked.

    With a flight recorder, which keeps all scalars as well, every call goes through ``Telemetry.scalars``.
    """

    def __init__(self, pipeline: Pipeline, faults: Faults, cost: StepCost) -> None:
        self.tags = CheckedTags()
        self._pipeline, self._faults, self._cost = pipeline, faults, cost
        self._templates: dict[str, ScalarTemplate] = {}

    def keep(self, tag: Any, value: Any, step: Any) -> bool:
        """Keep a number at a step; return False, and keep nothing, when the call needs ``Telemetry.scalars``.

        One reading of the wall clock is the time of the record and the start of the call's cost: when somebody sets the
        clock meanwhile, the cost of one step is wrong.
        """
        started_ns = time_ns()
        cost = self._cost
        try:
            template = self._templates.get(tag) or self._learn(tag)
            number = value if type(value) is float else host_number(value)
        except Exception:  # noqa: BLE001 - the long path finds the same error, and reports the error
            return False
        # The step of the call before was checked, and is mostly the same object.
        checked = step is cost.step or (type(step) is int and 0 <= step <= STEP_MAX)
        if template is None or number is None or not checked:
            return False
        try:
            if not self._pipeline.outbox.append_scalar(template, step, started_ns, number):
                return False
            if step == cost.step:
                cost.ns += time_ns() - started_ns
            else:
                cost.add(step, time_ns() - started_ns)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            self._faults.note("telemetry.scalars", error)
        return True

    def _learn(self, tag: Any) -> ScalarTemplate | None:
        """Return a new template for a checked tag, None for another tag. Raises TypeError for a tag without a hash."""
        if type(tag) is not str or tag not in self.tags or self._pipeline.flight is not None:
            return None
        if len(self._templates) >= TAGS_MAX:
            self._templates.clear()
        template = self._templates[tag] = ScalarTemplate(tag)
        return template
