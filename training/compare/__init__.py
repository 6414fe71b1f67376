"""``python -m training compare``: methods, keep fractions and task counts under equal budgets."""
