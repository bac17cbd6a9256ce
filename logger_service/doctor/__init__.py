"""The command ``doctor``: judges recordings and log directories of any program by the rules of ``findings``.

``places`` finds the runs, ``recordings`` and ``event_folders`` show their values to the rules, ``report`` says what was
found. May import ``protocol``, ``events`` and ``findings``.
"""
