"""What suites on MuJoCo share."""
