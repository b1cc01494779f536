"""The models and the `ostiary` command, as the unit's own tests have them."""

from tests.device.commands.conftest import ostiary as ostiary
from tests.device.conftest import judge as judge
from tests.device.conftest import models as models
