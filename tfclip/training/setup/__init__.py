"""Builds what a run needs before its first step: model, optimizer, adapted heads."""
