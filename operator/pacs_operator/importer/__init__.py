"""An import's process: asks a source what it has, brings it through the gate, and checks what came of it."""
