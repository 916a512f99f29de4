"""Pure: what the user asked for, parsed once into frozen, typed values, with every problem reported together."""
