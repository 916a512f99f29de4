"""What a stack's images and boot images are today, read from where they are published."""
