"""The service: one routed network behind HTTP.

Three rings, imports pointing inwards only: ``service.core`` (scheduler, engine, model holder; knows
no HTTP), ``service.http`` (routes, schemas, errors), and around them settings, metrics, logging and
the command line.
"""
