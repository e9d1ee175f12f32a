"""RoboCasa-GR1: 24 humanoid tabletop tasks, on upstream's scenes or on built-in ones."""
