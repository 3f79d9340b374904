"""The shell: one thin module per command."""
