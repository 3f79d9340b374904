"""Policies and members in the trainers of other libraries: one module each, which imports that library."""
