"""How a training runs on, resumes and scales."""
