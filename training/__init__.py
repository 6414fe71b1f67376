"""Offline side of TaskRoute: reads data sets, trains, evaluates and publishes routed networks."""
