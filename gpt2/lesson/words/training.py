"""Training in words, from the loss on. Keys are the steps of outline; (English, 简体中文) each."""

from gpt2.lesson.words.forward import step

TRAINING = {
    "loss": step(
        ("The loss: how surprised", "损失：有多意外"),
        (
            "<p>To learn, the model needs a number that says how wrong it was. At every position it is the surprise at "
            "the token that really came:</p>"
            "<p><code>loss = mean of −log p(next token)</code></p>"
            "<p>over all positions that are scored (GPT-1 paper, equation 1). Labels are the ids themselves, shifted "
            "by one place, so the last position has none; −100 marks what is not scored. Surprise is counted in "
            "<em>nats</em>; guessing evenly among V tokens costs ln V each.</p>"
            "<p>The bars show the surprise at every token of the prompt and of what the model adds to it. The packaged "
            "model was only ever scored on answers: the letters of the input, which nobody can foresee, surprise it "
            "a lot, the answer hardly at all.</p>",
            "<p>要学习，就得有一个数说明错了多少。在每个位置上，它就是对真正出现的那个词元的意外程度：</p>"
            "<p><code>loss = −log p(下一个词元) 的平均</code></p>"
            "<p>对所有计分的位置取平均（GPT-1 论文式 1）。标签就是 id 本身，只是错开一位，所以最后一个位置没有标签；"
            "−100 表示不计分。意外程度以 <em>nat</em> 计，在 V 个词元里均匀乱猜，每个要付出 ln V。</p>"
            "<p>条形图是提示以及模型续写的每个词元的意外程度。自带的小模型训练时只在答案上计分："
            "输入的字母谁也无法预料，让它大感意外；而答案几乎不意外。</p>",
        ),
        (
            "Guessing evenly among 66 tokens costs ln 66 ≈ 4.2 nats. How can a trained model do worse?",
            "在 66 个词元里均匀乱猜只需 ln 66 ≈ 4.2 nat。训练过的模型怎么会更差？",
        ),
        (
            "<p>By being sure of the wrong thing. Nothing in its training asked what the input would be, so what it "
            "says there is a by-product of learning the answers, and −log p has no upper limit.</p>",
            "<p>因为它对错误的东西很有把握。训练从没要求它预测输入，它在那里说的话只是学习答案的副产品，"
            "而 −log p 没有上限。</p>",
        ),
    ),
    "gradients": step(
        ("Gradients: derived by hand, and by machine", "梯度：手推与自动微分"),
        (
            "<p>Which way must each weight move to make the loss smaller? The chain rule says so, backwards from the "
            "end. It begins simply:</p>"
            "<p><code>∂loss/∂logits = (softmax(logits) − one-hot(label)) / scored tokens</code></p>"
            "<p>In the reference, every function has its gradient right beneath it, derived by hand and checked "
            "against numerical derivatives. The MindSpore twin has none of this code: its gradients come from "
            "automatic differentiation, and the judge holds the two against each other.</p>"
            "<p>In the first picture each row has one negative cell, the label, and is positive where the model "
            "bet wrongly: "
            "the gradient pulls the label up and the rest down. Rows of the answer are pale, there is nothing left to "
            "learn. The bars show which parameters it would move most. The curve walks against it: near 0 the loss "
            "follows the promised line.</p>",
            "<p>每个权重该往哪边动，损失才会变小？链式法则从终点往回推，给出答案。开头很简单：</p>"
            "<p><code>∂loss/∂logits = (softmax(logits) − one-hot(标签)) / 计分的词元数</code></p>"
            "<p>在参考实现里，每个函数的正下方就是它的梯度，由人手推，再用数值导数检验。MindSpore "
            "孪生实现没有这些代码，梯度来自自动微分；裁判让两者互相印证。</p>"
            "<p>第一张图里，每行有一个负的格子，就是标签；押错的地方是正的：梯度把标签往上拉，把其余的往下压。"
            "答案所在的行颜色很淡，因为已经没什么可学。条形图显示哪些参数最想动。曲线是沿梯度反方向走的结果："
            "在 0 附近，损失紧贴预言的直线。</p>",
        ),
        (
            "The rows of ∂loss/∂logits sum to 0. What does that say about softmax?",
            "∂loss/∂logits 的每一行之和都是 0。这说明 softmax 有什么性质？",
        ),
        (
            "<p>That it forgets a shift: adding the same number to all scores of a row changes no probability, so the "
            "loss has no slope in that direction. The same symmetry as in the forward pass, seen from behind.</p>",
            "<p>说明它不受平移影响：给一行所有分数加上同一个数，概率都不变，损失在这个方向上没有坡度。"
            "这与前向时的对称性是同一回事，只是从背面看。</p>",
        ),
    ),
    "task": step(
        ("A task is just text", "任务也是文本"),
        (
            "<p>GPT-2 has no switch for tasks. One writes the task into the prompt, and a model that has seen such "
            "text goes on accordingly: it learns p(output | input, task) (GPT-2 paper, section 2). The packaged model "
            "knows seven words, of which four are shown:</p>"
            "<p><code>reverse: abcd↵dcba</code></p>"
            "<p>In the first picture the input is always <code>hbxa</code>, only the task word differs. Each row shows "
            "what is expected right after ↵, and is named by the whole answer.</p>"
            "<p>When a model is trained for a task, only the answer is scored: the labels of all else are −100. The "
            "second picture marks, with 1, the positions that predict a scored token. A classifier reads the same "
            "stack at the last token instead.</p>",
            "<p>GPT-2 没有切换任务的开关。把任务写进提示，见过这类文本的模型就会照着往下写：它学的是 "
            "p(输出 | 输入, 任务)（GPT-2 论文第 2 节）。自带的模型认得七个任务词，这里看四个：</p>"
            "<p><code>reverse: abcd↵dcba</code></p>"
            "<p>第一张图里，输入总是 <code>hbxa</code>，只有任务词不同。每一行是紧接在 ↵ 之后的预测，"
            "行名里写着完整的答案。</p>"
            "<p>针对任务训练时，只有答案计分，其余标签都是 −100。第二张图用 1 标出预测计分词元的位置。"
            "分类模型用的是同一个主干，只是改在最后一个词元处读取结果。</p>",
        ),
        (
            "The first 1 stands at the line break, before the answer begins. Is that an error?",
            "第一个 1 出现在换行处，答案还没有开始。这是错误吗？",
        ),
        (
            "<p>No: a position is scored for what it <em>predicts</em>. The line break must predict the first "
            "letter of "
            "the answer. Forgetting this shift by one is a classic bug, and the model would learn to copy.</p>",
            "<p>不是：一个位置是否计分，看它<em>预测</em>的是什么。换行处要预测的正是答案的第一个字母。"
            "忘记错开这一位是经典错误，那样模型只会学到照抄。</p>",
        ),
    ),
    "mixed_precision": step(
        ("Mixed precision: where float16 breaks", "混合精度：float16 在哪里出错"),
        (
            "<p>float16 halves the memory and speeds up accelerators, but ends at 65504 and has nothing but 0 below "
            "6·10<sup>-8</sup>. So weights and sums stay in float32, only the large products run in float16, and the "
            "loss is scaled up so that small gradients survive (Micikevicius et al. 2018):</p>"
            "<p><code>gradients = ∂(scale · loss) / scale</code></p>"
            "<p>First picture: the largest score of this text as the queries grow. In float16 it becomes infinite "
            "while the quotient would still fit: the product overflows <em>before</em> it is divided by √D.</p>"
            "<p>Second: float32’s mask value is −∞ in float16, and a row with nothing else becomes NaN. Third: "
            "which share of this text’s gradients is lost at each scale, to 0 on the left, to ∞ on the right.</p>",
            "<p>float16 节省一半内存，在加速卡上更快，但最大只到 65504，小于 6·10<sup>-8</sup> 就成了 0。"
            "所以权重和求和留在 float32，只有大的矩阵乘法用 float16，并把损失放大，使小梯度得以保留"
            "（Micikevicius 等 2018）：</p>"
            "<p><code>梯度 = ∂(scale · loss) / scale</code></p>"
            "<p>第一张图：查询逐渐增大时，这段文本的最大分数。float16 变成无穷大时，商其实还装得下："
            "乘积在除以 √D <em>之前</em>就溢出了。</p>"
            "<p>第二张：float32 的掩码值在 float16 里是 −∞，整行都是它就得到 NaN。"
            "第三张：每个放大倍数下丢失的梯度比例，左边变成 0，右边变成 ∞。</p>",
        ),
        (
            "Nobody knows the best loss scale in advance. How is it found?",
            "最合适的损失放大倍数事先没人知道。怎样找到它？",
        ),
        (
            "<p>By trying: <code>DynamicLossScaler</code> doubles it after a while without overflow. When a gradient "
            "overflows, that step is skipped, weights and moments stay as they were, and the scale is halved. Powers "
            "of two change no bit of the rest.</p>",
            "<p>靠试：<code>DynamicLossScaler</code> 在一段时间没有溢出后把它加倍；一旦梯度溢出，就跳过这一步，"
            "权重和动量保持原样，并把倍数减半。2 的幂不会改变其余数的任何一位。</p>",
        ),
    ),
    "accumulation": step(
        ("Accumulation: a large batch in small pieces", "梯度累积：化整为零的大批次"),
        (
            "<p>A batch too large for the memory is cut into k micro-batches. Their gradients are summed up, divided "
            "by k, clipped once, and make <em>one</em> update:</p>"
            "<p><code>g = (g<sub>1</sub> + … + g<sub>k</sub>) / k</code></p>"
            "<p>Since the gradient of a mean is the mean of the gradients, that is the gradient of the whole batch, "
            "up to rounding.</p>"
            "<p>The picture shows the gradient of <code>h.0.ln_1.weight</code>, one column per channel: four "
            "micro-batches (this text with its tokens shuffled), which differ plainly; their mean; and the gradient of "
            "all four as one batch. The last two rows look the same. The second picture is their difference: a few "
            "times 10<sup>-8</sup>, the rounding of float32.</p>",
            "<p>批次太大、内存装不下时，就切成 k 个微批次。把它们的梯度加起来，除以 k，裁剪一次，"
            "只做<em>一次</em>更新：</p>"
            "<p><code>g = (g<sub>1</sub> + … + g<sub>k</sub>) / k</code></p>"
            "<p>平均的梯度就是梯度的平均，所以它等于整个批次的梯度，只差舍入。</p>"
            "<p>图中是 <code>h.0.ln_1.weight</code> 的梯度，每列一个通道：前四行是四个微批次（把这段文本的词元打乱），"
            "彼此明显不同；然后是它们的平均；最后是四条合成一个批次的梯度。最后两行看起来一样。第二张图是两者之差："
            "几个 10<sup>-8</sup>，正是 float32 的舍入误差。</p>",
        ),
        (
            "When is the mean of the micro-batches <em>not</em> the gradient of the whole batch?",
            "什么时候微批次的平均<em>不等于</em>整个批次的梯度？",
        ),
        (
            "<p>When they score different numbers of tokens: the mean of means is not the mean. A micro-batch with "
            "few labels then counts too much. <code>Accumulator</code> therefore weights each by its scored tokens "
            "(many libraries did not until 2024).</p>",
            "<p>当各个微批次计分的词元数不同的时候：平均的平均不等于总平均，标签少的微批次会被看得过重。"
            "所以 <code>Accumulator</code> 按计分的词元数加权（许多库直到 2024 年才这样做）。</p>",
        ),
    ),
}
