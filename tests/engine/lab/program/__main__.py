"""Runs the program of one step of one scenario."""

import os

from scenarios import SCENARIOS

SCENARIOS[os.environ["SCENARIO"]][int(os.environ["STEP"])].program()
