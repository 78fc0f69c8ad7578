"""Planted bugs of the activations and of the place where they stand."""

from parity.mutants.base import Edit, Mutant

ACTIVATIONS = (
    Mutant(
        "erf for tanh",
        "PyTorch's nn.GELU() and MindSpore's ops.gelu compute erf by default. nanoGPT used nn.GELU() for "
        "GPT-2's tanh form in pull request 274; the two differ by 5e-4 at most.",
        (
            Edit(
                "reference.ops.gelu_new",
                "    return 0.5 * x * (1 + tanh(inner))",
                "    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2)))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "two digits of 0.044715 swapped",
        "The constant was typed from memory.",
        (Edit("reference.ops.gelu_new", "0.044715 * (x", "0.044175 * (x"),),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "quick GELU",
        "x sigmoid(1.702 x), the other approximation of Hendrycks and Gimpel 2016, which OpenAI's CLIP uses.",
        (
            Edit(
                "reference.ops.gelu_new",
                "    return 0.5 * x * (1 + tanh(inner))",
                "    return x / (1 + np.exp(-1.702 * x))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "tanh by a rational formula",
        "An approximate tanh for a device without one; that of MindSpore 2.10 is off by 1e-4 on CPU.",
        (
            Edit(
                "reference.ops.gelu_new",
                "    return 0.5 * x * (1 + tanh(inner))",
                "    u = np.clip(inner, -3, 3)\n    return 0.5 * x * (1 + u * (27 + u * u) / (27 + 9 * u * u))",
            ),
        ),
        ("mlp.gelu_new", "ops.gelu_new"),
    ),
    Mutant(
        "silu for gelu",
        "The two look alike in a plot.",
        (Edit("reference.ops.gelu", "0.5 * x * (1 + erf(x / math.sqrt(2)))", "silu(x)"),),
        ("mlp.gelu", "ops.gelu"),
    ),
    Mutant(
        "relu6 for relu",
        "The bounded form of mobile networks.",
        (Edit("reference.ops.relu", "np.maximum(x, 0)", "np.clip(x, 0, 6)"),),
        ("mlp.relu", "ops.relu"),
    ),
    Mutant(
        "sigmoid overflows",
        "The sigmoid as e^x / (1 + e^x), in float16: from x = 11.1 on it is infinity over infinity.",
        (
            Edit("reference.ops.silu", "@rounded_once\ndef silu(", "def silu("),
            Edit(
                "reference.elementary.sigmoid",
                "np.where(x >= 0, 1, decay) / (1 + decay)",
                "np.exp(x) / (1 + np.exp(x))",
            ),
        ),
        ("mlp.silu", "ops.silu"),
        dtype="float16",
    ),
    Mutant(
        "activation_function ignored",
        "The MLP always uses GPT-2's activation and ignores config.json.",
        (Edit("reference.model.mlp", "getattr(activations, name)(h)", "activations.gelu_new(h)"),),
        ("mlp.gelu", "mlp.relu", "mlp.silu", "model.mlp"),
    ),
    Mutant(
        "the tanh form for every gelu",
        "A fast path with the tanh form is used for both kinds of GELU.",
        (Edit("reference.fast.mlp_fast", 'if name == "gelu_new"', 'if name.startswith("gelu")'),),
        ("fast.mlp_fast",),
    ),
    Mutant(
        "activation before the bias",
        "A fused kernel that applies the activation to the product and adds the bias afterwards.",
        (
            Edit(
                "reference.model.mlp",
                "getattr(activations, name)(h)",
                'getattr(activations, name)(h - params["c_fc"]["bias"]) + params["c_fc"]["bias"]',
            ),
        ),
        ("mlp.gelu_new", "mlp.gelu", "mlp.relu", "mlp.silu", "model.mlp"),
    ),
    Mutant(
        "a rounded constant of quick GELU",
        "1.7 for 1.702: off by 4e-4 at most.",
        (Edit("reference.activations.quick_gelu", "elementary.sigmoid(1.702 * x)", "elementary.sigmoid(1.7 * x)"),),
        ("mlp.quick_gelu", "activations.quick_gelu"),
    ),
    Mutant(
        "swish for mish",
        "The two look alike in a plot.",
        (
            Edit(
                "reference.activations.mish",
                "x * part / (part + 2 * np.where(positive, e * e, 1))",
                "x * elementary.sigmoid(x)",
            ),
        ),
        ("mlp.mish", "activations.mish"),
    ),
    Mutant(
        "mish without its tanh",
        "x log(1 + exp(x)): softplus taken for the gate.",
        (
            Edit(
                "reference.activations.mish",
                "x * part / (part + 2 * np.where(positive, e * e, 1))",
                "x * np.logaddexp(x, np.zeros_like(x))",
            ),
        ),
        ("mlp.mish", "activations.mish"),
    ),
    Mutant(
        "tanh of half the argument",
        "tanh(x) is 2 sigmoid(2x) - 1; the inner 2 is forgotten.",
        (Edit("reference.activations.tanh", "elementary.tanh(x)", "2 * elementary.sigmoid(x) - 1"),),
        ("mlp.tanh", "activations.tanh"),
    ),
    Mutant(
        "a hard sigmoid",
        "Straight lines between 0 and 1, as PyTorch's Hardsigmoid.",
        (Edit("reference.activations.sigmoid", "elementary.sigmoid(x)", "np.clip(x / 6 + 0.5, 0, 1)"),),
        ("mlp.sigmoid", "activations.sigmoid"),
    ),
    Mutant(
        "another slope of leaky_relu",
        "PyTorch's default is 0.01, MindSpore's ops.leaky_relu has 0.2, Keras's layer 0.3.",
        (Edit("reference.activations.leaky_relu", "0.01 * x", "0.2 * x"),),
        ("mlp.leaky_relu", "activations.leaky_relu"),
    ),
    Mutant(
        "the square of all for relu2",
        "x^2 without the relu.",
        (Edit("reference.activations.relu2", "np.maximum(x, 0)", "x"),),
        ("mlp.relu2", "activations.relu2"),
    ),
    Mutant(
        "relu for linear",
        "'No activation' falls back to the default of a layer.",
        (Edit("reference.activations.linear", "    return x", "    return np.maximum(x, 0)"),),
        ("mlp.linear", "activations.linear"),
    ),
    Mutant(
        "leaky_relu learns like relu",
        "Its gradient below 0 is forgotten.",
        (Edit("reference.gradients.activations.leaky_relu_vjp", "0.01 * grad", "np.zeros_like(grad)"),),
        ("activations.leaky_relu_vjp",),
    ),
    Mutant(
        "the 2 forgotten in the gradient of relu2",
        "The derivative of x^2 is 2 x.",
        (Edit("reference.gradients.activations.relu2_vjp", "2 * np.maximum(x, 0)", "np.maximum(x, 0)"),),
        ("activations.relu2_vjp",),
    ),
    Mutant(
        "a gradient of tanh without its square",
        "1 - t for 1 - t^2.",
        (Edit("reference.gradients.activations.tanh_vjp", "1 - t * t", "1 - t"),),
        ("activations.tanh_vjp",),
    ),
)
