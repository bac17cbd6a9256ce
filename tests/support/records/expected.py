"""Every tag the reference trainer shows, spelt as TensorBoard spells it."""

LOSSES = ("total", "text_image", "text_audio", "image_audio", "global_modal")
MODALITIES = ("text", "image", "audio")
EMBEDDINGS = (*MODALITIES, "global")
PAIRS = ("text_vs_image", "text_vs_audio", "image_vs_audio")
DIRECTIONS = tuple(f"{a}_to_{b}" for a in MODALITIES for b in MODALITIES if a != b)

EACH_LOG_INTERVAL = (
    *(f"loss/train/{loss}" for loss in LOSSES),
    "optimization/lr",
    "optimization/grad_norm",
    "optimization/grad_norm_clipped",
    "optimization/temperature",
    *(f"embeddings/{name}/{value}" for name in EMBEDDINGS for value in ("mean", "std", "dimension_std", "norm")),
)
EACH_EPOCH = (
    *(f"loss/val/{loss}" for loss in LOSSES),
    "loss/train/epoch_mean",
    "loss/train/epoch_std",
    *(f"alignment/{pair}/{value}" for pair in PAIRS for value in ("diagonal_similarity", "mean_similarity")),
    *(f"retrieval/{direction}/recall_at_{k}" for direction in DIRECTIONS for k in (1, 5, 10)),
    "progress/epoch",
    *(
        f"telemetry/{name}"
        for name in (
            *("step_cost_us_p50", "step_cost_us_p99", "lag_seconds", "outbox_bytes", "spilled_bytes", "refused"),
            "faults",
        )
    ),
)
HEATMAPS = tuple(f"similarity/{pair}" for pair in PAIRS)
IMAGES_EACH_EPOCH = ("samples/images", *HEATMAPS)
OVERVIEWS = ("histograms/weights", "histograms/gradients")
PROJECTOR = (*EMBEDDINGS, "joint")
LAYOUT = ("Training Progress", "Embeddings", "Optimization", "Alignment")
