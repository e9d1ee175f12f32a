"""LIBERO: five suites on upstream's own tasks, init states, controller and success predicates."""
