"""Routed networks as plain PyTorch: routes, backbones, heads, subnets, preprocessing, bundles.

Imports neither ``service`` nor ``training``; both import this package.
"""
