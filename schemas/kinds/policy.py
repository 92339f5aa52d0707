"""The policy: what frontends and listeners have done with requests and answers, by a name.

Whatever may stand here may stand in a frontend too.
"""

from typing import ClassVar

from schemas.policies.effects import Effects


class Policy(Effects):
    """What is done with requests and answers, for all frontends and listeners that name it."""

    KIND: ClassVar[str] = "policy"
