"""How hard Hypothesis looks: "ci", always the same examples, or --hypothesis-profile=deep, thousands of new ones."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "deep", max_examples=3000, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")  # Hypothesis's own plugin loads what --hypothesis-profile names after this
