"""Built-in scenes: the 24 tasks on robosuite's robot and MuJoCo's primitives, without upstream's package and assets."""
