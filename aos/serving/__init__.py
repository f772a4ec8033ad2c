"""Each service alone in its process: its settings, its calls to the others, its readiness; `aos serve`."""
