"Settings of every test."

from hypothesis import settings

if settings.get_current_profile_name() == "default":  # scripts/mutate.py brings its own
    settings.register_profile("tests", deadline=None)  # how long an example takes on a busy machine is no property
    settings.load_profile("tests")
