"""Model servers: from plan to container specification to the renderers of it."""
