"""Models that read and write sentences."""

from functools import partial

from .data import continued, sentences, tagged
from .workload import Workload, module


# Recurrent network.
def lstm(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((100,), dtype="int32"),
            layers.Embedding(5000, 64),
            layers.LSTM(64),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def lstm_twin(torch):
    nn = torch.nn

    def forward(self, words):
        _, (state, _) = self.lstm(self.embedding(words))  # (1, batch, 64)
        return self.head(state[-1])

    return module(
        torch, forward, embedding=nn.Embedding(5000, 64), lstm=nn.LSTM(64, 64, batch_first=True), head=nn.Linear(64, 1)
    )


# Transformer encoder.
def blocks(k, h, causal=False):
    layers = k.layers
    for _ in range(2):
        normal = layers.LayerNormalization()(h)
        h = layers.add([h, layers.MultiHeadAttention(4, 32)(normal, normal, use_causal_mask=causal)])
        normal = layers.LayerNormalization()(h)
        h = layers.add([h, layers.Dense(128)(layers.Dense(512, activation="gelu")(normal))])
    return h


def transformer(k):
    layers = k.layers
    words = k.Input((128,), dtype="int32")
    h = layers.Embedding(5000, 128)(words)  # (batch, 128 tokens, width 128)
    h = blocks(k, h)
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    return k.Model(words, layers.Dense(10, activation="softmax")(h))


def block(torch, causal=0):
    """What a transformer repeats; with `causal`, the number of words, none sees those that follow."""
    nn = torch.nn
    mask = nn.Transformer.generate_square_subsequent_mask(causal) if causal else None

    def forward(self, h):
        normal = self.norm_1(h)
        attended, _ = self.attention(
            normal, normal, normal, need_weights=False, attn_mask=mask, is_causal=mask is not None
        )
        return h + attended + self.mlp(self.norm_2(h + attended))

    return module(
        torch,
        forward,
        norm_1=nn.LayerNorm(128),
        norm_2=nn.LayerNorm(128),
        attention=nn.MultiheadAttention(128, 4, batch_first=True),
        mlp=nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128)),
    )


def transformer_twin(torch):
    nn = torch.nn
    return module(
        torch,
        lambda self, words: self.head(self.blocks(self.embedding(words)).mean(1)),
        embedding=nn.Embedding(5000, 128),
        blocks=nn.Sequential(block(torch), block(torch), nn.LayerNorm(128)),
        head=nn.Linear(128, 10),
    )


# Generative transformer: the next word, after each.
def gpt(k):
    layers = k.layers

    class Places(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:], initializer="uniform")

        def call(self, h):
            return h + self.table

    words = k.Input((64,), dtype="int32")
    embedding = layers.ReversibleEmbedding(1000, 128)
    h = blocks(k, Places()(embedding(words)), causal=True)
    return k.Model(words, embedding(layers.LayerNormalization()(h), reverse=True))


def gpt_twin(torch):
    nn = torch.nn
    embedding = nn.Embedding(1000, 128)
    nn.init.uniform_(embedding.weight, -0.05, 0.05)  # it makes the logits too
    return module(
        torch,
        lambda self, words: self.blocks(self.embedding(words) + self.places) @ self.embedding.weight.T,
        embedding=embedding,
        places=nn.Parameter(torch.randn(64, 128) / 50),
        blocks=nn.Sequential(block(torch, 64), block(torch, 64), nn.LayerNorm(128)),
    )


# Tagger: a class for each word of padded sentences.
def tagger(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((60,), dtype="int32"),
            layers.Embedding(5000, 64, mask_zero=True),
            layers.Bidirectional(layers.GRU(64, return_sequences=True)),
            layers.Dense(20, activation="softmax"),
        ]
    )


def tagger_twin(torch):
    nn, rnn = torch.nn, torch.nn.utils.rnn

    def forward(self, words):
        lengths = (words != 0).sum(1)
        packed = rnn.pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        h, _ = rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=60)
        return self.head(h)

    embedding = nn.Embedding(5000, 64, padding_idx=0)
    gru = nn.GRU(64, 64, batch_first=True, bidirectional=True)
    return module(torch, forward, embedding=embedding, gru=gru, head=nn.Linear(128, 20))


# Convolution over words.
def text_convolution(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((200,), dtype="int32"),
            layers.Embedding(5000, 64),
            layers.Conv1D(128, 5, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def text_convolution_twin(torch):
    nn = torch.nn

    def forward(self, words):
        h = torch.relu(self.convolution(self.embedding(words).transpose(1, 2)))  # (batch, channels, words)
        return self.head(h.amax(2))

    embedding, convolution = nn.Embedding(5000, 64), nn.Conv1d(64, 128, 5)
    return module(torch, forward, embedding=embedding, convolution=convolution, head=nn.Linear(128, 1))


TEXTS = {
    "lstm": Workload(
        "Embedding and LSTM(64) on {rows:,} sentences of 100 words, batch 32",
        lstm, lstm_twin, partial(sentences, length=100, classes=2), rows=2000, quick_rows=320, batch=32, epochs=3,
        loss="BinaryCrossentropy",
    ),
    "gru-tagger": Workload(
        "Tagger (bidirectional GRU(64), masked) on {rows:,} sentences of up to 60 words, batch 32",
        tagger, tagger_twin, partial(tagged, length=60, classes=20),
        rows=2000, quick_rows=320, batch=32, epochs=3, padding=0,
    ),
    "text-conv": Workload(
        "Embedding and Conv1D(128, 5) on {rows:,} sentences of 200 words, batch 32",
        text_convolution, text_convolution_twin, partial(sentences, length=200, classes=2),
        rows=1500, quick_rows=320, batch=32, epochs=4, loss="BinaryCrossentropy",
    ),
    "transformer": Workload(
        "Transformer encoder (2 blocks, width 128, 4 heads) on {rows:,} texts of 128 tokens, batch 32",
        transformer, transformer_twin, partial(sentences, length=128, classes=10),
        rows=640, quick_rows=160, batch=32, epochs=4,
    ),
    "gpt": Workload(
        "GPT (2 causal blocks, width 128, tied embedding of 1,000) on {rows:,} texts of 64 tokens, batch 32",
        gpt, gpt_twin, partial(continued, length=64, vocabulary=1000), rows=320, quick_rows=128, batch=32, epochs=4,
        loss_options={"from_logits": True},
    ),
}  # fmt: skip
