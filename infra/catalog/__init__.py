"""Pure: facts as dated rows (machines, accelerators, prices, fees) and their loader."""
