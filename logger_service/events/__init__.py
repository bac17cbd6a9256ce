"""From messages to TensorBoard event files; the only place that imports tensorboardX."""
