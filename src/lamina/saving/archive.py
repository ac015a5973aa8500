def save_model(*a, **k): raise NotImplementedError
load_model = save_weights = load_weights = save_model
