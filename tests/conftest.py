"Settings of every test."

from hypothesis import settings

settings.register_profile("fuzz", deadline=None)  # new examples at each run: make fuzz
if settings.get_current_profile_name() == "default":  # scripts/mutate.py brings its own
    # How long an example takes on a busy machine is no property; the same examples at each run, so that a commit
    # that was green stays green.
    settings.register_profile("tests", deadline=None, derandomize=True)
    settings.load_profile("tests")
