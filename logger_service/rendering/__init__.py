"""Pictures from numbers; the only place that imports matplotlib."""
