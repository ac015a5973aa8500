"""The ground that everything stands on: variables, scopes, transforms, symbolic tensors, configuration."""
