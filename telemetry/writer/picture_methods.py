"""The methods of a writer for what people look at and listen to: pictures, figures, videos, sound, text."""

from collections.abc import Iterable, Sequence
from typing import Any

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Audio
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.values import drawings, fit
from tensorboard_sidecar.telemetry.values.arrays import ArrayLike, Note, Pictures
from tensorboard_sidecar.telemetry.values.drafts import Draft
from tensorboard_sidecar.telemetry.values.figures import Figures, rasterise
from tensorboard_sidecar.telemetry.writer.base import WriterBase, guarded, in_either_order


class PictureMethods(WriterBase):
    """``add_image``, ``add_images``, ``add_figure``, ``add_video``, ``add_audio``, ``add_text`` and their like."""

    @guarded
    def add_image(
        self,
        tag: str,
        img_tensor: Pictures,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Keep one picture: floats in 0..1 or integers in 0..255, dimensions as ``dataformats`` says, in any order.

        >>> import torch
        >>> writer.add_image("samples/first", torch.rand(3, 32, 32), 100)
        """
        self._images(tag, img_tensor, global_step, walltime, dataformats)

    @guarded
    def add_images(
        self,
        tag: str,
        img_tensor: Pictures,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Keep several pictures, as :meth:`add_image`; ``dataformats`` has the letters NCHW in any order.

        ``img_tensor`` may be a list of pictures; ``dataformats`` then has the letters of one picture, or all four.

        >>> import torch
        >>> writer.add_images("samples/all", torch.rand(4, 32, 32, 3), 100, dataformats="NHWC")
        """
        self._images(tag, img_tensor, global_step, walltime, dataformats)

    @guarded
    @in_either_order(6, "dataformats", "labels")
    def add_image_with_boxes(
        self,
        tag: str,
        img_tensor: Pictures,
        box_tensor: ArrayLike,
        global_step: int | None = None,
        walltime: float | None = None,
        rescale: float = 1,
        dataformats: str = "CHW",
        labels: Sequence[str] | str | None = None,
    ) -> None:
        """Keep a picture with boxes ``[number, 4]``: left, top, right, bottom in pixels; the logger draws the boxes.

        ``labels`` has a text for each box. The picture is shown ``rescale`` times as large. tensorboardX's order of
        parameters works too: ``dataformats`` sixth, ``labels`` seventh.

        >>> import torch
        >>> picture, box = torch.rand(3, 32, 32), torch.tensor([[4, 4, 20, 24]])
        >>> writer.add_image_with_boxes("samples/found", picture, box, 100, labels=["a dog"])
        """
        shown = self._tag("add_image_with_boxes", tag)
        self._keep(
            "add_image_with_boxes",
            global_step,
            walltime,
            lambda note: [drawings.boxes(shown, img_tensor, box_tensor, labels, rescale, dataformats, note)],
        )

    @guarded
    def add_figure(
        self,
        tag: str,
        figure: Figures,
        global_step: int | None = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """Keep figures of matplotlib as pictures, and close them unless ``close`` is False.

        Matplotlib draws a figure at the call, because a figure belongs to its thread: 20 to 100 ms, in which the loop
        waits. Encoding and writing happen in the logger. ``telemetry.matrix`` shows a heatmap at none of this cost:
        only the numbers leave the loop.

        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> lines = figure.add_subplot().plot([1, 3, 2])
        >>> writer.add_figure("loss/by_layer", figure, 100)
        """
        figures = list(figure) if isinstance(figure, list | tuple) else [figure]
        if not figures:
            raise ValueError("no figures; expected a figure, or a list of one or more")
        drawn = [rasterise(each, close=close) for each in figures]
        self._images(tag, drawn, global_step, walltime, "HWC")

    @guarded
    def add_video(
        self,
        tag: str,
        vid_tensor: ArrayLike,
        global_step: int | None = None,
        fps: float = 4,
        walltime: float | None = None,
        dataformats: str = "NTCHW",
    ) -> None:
        """Keep a video ``[N, T, C, H, W]``: bytes in 0..255 or floats in 0..1. N clips are shown beside each other.

        ``dataformats`` has the five letters in any order. The logger makes an animated GIF.

        >>> import torch
        >>> writer.add_video("samples/rollout", torch.rand(1, 8, 3, 16, 16), 100, fps=8)
        """
        shown = self._tag("add_video", tag)
        self._keep(
            "add_video",
            global_step,
            walltime,
            lambda note: [drawings.video(shown, vid_tensor, fps, dataformats, note)],
        )

    @guarded
    def add_audio(
        self,
        tag: str,
        snd_tensor: ArrayLike,
        global_step: int | None = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Keep a clip: ``[frames]``, ``[channels, frames]`` or ``[frames, channels]``, also with sides of 1 more.

        Floats are in -1..1; integers have the full scale of their dtype. ``sample_rate`` is in Hz.

        >>> import torch
        >>> writer.add_audio("samples/tone", torch.sin(torch.arange(8000) / 3), 100, sample_rate=8000)
        """
        shown = self._tag("add_audio", tag)

        def drafts(note: Note) -> Iterable[Draft]:
            rate_hz = fit.sample_rate(sample_rate, note)
            sounds = fit.clips(shown, [snd_tensor], (), note).sounds
            return [
                Draft(
                    Kind.AUDIO,
                    [sound],
                    lambda arrays: Audio(shown, list(map(pack_array, arrays)), rate_hz, single=True),
                )
                for sound in sounds
            ]

        self._keep("add_audio", global_step, walltime, drafts)

    @guarded
    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Keep a text, with the tag ``<tag>/text_summary`` as both peers; TensorBoard shows markdown.

        >>> writer.add_text("notes", "The **second** half of the data begins here.", 100)
        """
        shown = f"{self._tag('add_text', tag)}/text_summary"
        self.telemetry.text(self._step(global_step), shown, text_string, walltime=self._time(walltime))

    def _images(self, tag: str, pictures: Any, global_step: Any, walltime: float | None, dataformats: str) -> None:
        self.telemetry.images(
            self._step(global_step), tag, pictures, layout=dataformats.upper(), walltime=self._time(walltime)
        )
