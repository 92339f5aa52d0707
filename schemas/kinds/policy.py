"""The policy: what frontends and listeners have done with requests and answers, by a name.

Whatever may stand here may stand in a frontend too, but for what it lets others do.
"""

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.policies.effects import Effects


class Policy(Effects):
    """What is done with requests and answers, for all frontends and listeners that name it."""

    KIND: ClassVar[str] = "policy"

    overridable: Annotated[
        bool,
        Field(
            description=(
                "Where a listener names the policy: what a frontend or its policies say of who may "
                "ask, and how much, replaces what this one says of the same, instead of adding to "
                "it: `allow`, `deny`, `bandwidth`, `concurrency`, `rate_limit` and "
                "`limits.body_bytes` each by itself; `basic_auth`, `client_certificate`, `jwt` and "
                "`forward_auth` together, so that who has one of them is asked for none of these "
                "here."
            )
        ),
    ] = False
