"""Acts on what an audit found: silence units, swap layers between encoders, train some layers or units only.

One file for each intervention. Each changes a model in place and returns a handle that can undo or end the change. All
checks run before the first change, so a call that raises leaves the model as it was.
"""
