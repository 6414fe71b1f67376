"""The command lines of ``python -m training``, one module each."""
