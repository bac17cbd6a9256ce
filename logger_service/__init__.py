"""The logging process: journals what trainers send and projects it to TensorBoard event files."""
