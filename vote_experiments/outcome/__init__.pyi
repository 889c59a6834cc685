# Every name that `vote_experiments.outcome` offers.

from .assertions import OutcomeCheckError as OutcomeCheckError
from .certificate import plot_risk as plot_risk
from .check import CheckStatus as CheckStatus
from .check import OutcomeCheck as OutcomeCheck
from .check import Station as Station
from .check import start_outcome_check as start_outcome_check
from .estimates import Estimate as Estimate
from .estimates import estimate_accuracy as estimate_accuracy
from .estimates import estimate_totals as estimate_totals
from .labels import label_probabilities as label_probabilities
from .labels import next_to_label as next_to_label
from .plan import CheckPlan as CheckPlan
from .plan import CheckSetting as CheckSetting
from .plan import forms_by_hand as forms_by_hand
from .plan import total_cost as total_cost
from .plan import vote_errors as vote_errors
